"""An import loses nothing in silence: every key of a file arrives with its value, or the report says what became of it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lora_backend.config.check import check_config
from lora_backend.config.config_text import parse_config
from lora_backend.config.config_writing import dump_yaml
from lora_backend.config.diff import same_value
from lora_backend.config.foreign.import_file import import_text
from lora_backend.config.foreign.tools import INSIDE, TOOLS, is_foreign
from lora_backend.config.patch import DELETE
from tests.config.foreign.accounting import assert_nothing_is_lost
from tests.config.foreign.examples import EXAMPLES, row

MIXED = """\
model_name: m
dataset: d.jsonl
r: 16
lora_alpha: 64
dropout: 0.05
learnin_rate: 5e-4
num_epochs: 1
"""
OURS: dict[str, Any] = {"r": 48, "alpha": 96, "use_dora": True, "max_length": 777, "pkg": "p", "version": "1", "min_memory_gb": 3.5}  # fmt: skip
TYPOS: dict[str, Any] = {"learnin_rate": 5e-4, "frobnicate": [1, {"a": None}], "lora_rnk": 3, "max_sequence": "many"}
VALUES = (None, True, 0, 0.5, "", "x,y", ["all-linear", "a"], {"a": [1]}, [{"path": "d.jsonl", "split": "train"}])


def test_one_old_key_in_a_config_of_ours_is_a_renaming_and_nothing_is_converted() -> None:
    document = parse_config(MIXED)
    assert not is_foreign(document)
    fixes = {finding.key: finding.fix for finding in check_config(document).errors}
    assert fixes == {
        "lora_alpha": {"lora_alpha": DELETE, "alpha": 64},
        "dropout": {"dropout": DELETE, "lora_dropout": 0.05},
        "learnin_rate": {"learnin_rate": DELETE, "learning_rate": 5e-4},
    }


def test_keys_of_others_in_a_config_of_ours_become_ours_and_what_nobody_knows_stays_as_an_error_with_its_fix() -> None:
    result = import_text(MIXED)
    assert result.tool == "ours"
    assert (result.values["lora_dropout"], result.values["alpha"], result.values["learnin_rate"]) == (0.05, 64, 5e-4)
    assert not result.assumed, "what the file does not say is left to our defaults"
    fixes = {finding.key: finding.fix for finding in result.findings if finding.severity == "error"}
    assert fixes == {"learnin_rate": {"learnin_rate": DELETE, "learning_rate": 5e-4}}


def test_a_key_of_another_tool_stays_in_a_file_of_the_first_as_an_error_with_its_fix() -> None:
    text = MIXED + "traindata_percentage: 0.5\n"
    assert is_foreign(parse_config(text))
    result = import_text(text)
    assert result.values["lora_dropout"] == 0.05
    assert (result.values["lora_alpha"], result.values["learnin_rate"]) == (64, 5e-4)
    assert not result.is_valid
    fixes = {finding.key: finding.fix for finding in result.findings if finding.severity == "error"}
    assert fixes["lora_alpha"] == {"lora_alpha": DELETE, "alpha": 64}
    assert fixes["learnin_rate"] == {"learnin_rate": DELETE, "learning_rate": 5e-4}


@pytest.mark.parametrize("first", ["lora_dropout: 0.2\ndropout: 0.05\n", "dropout: 0.05\nlora_dropout: 0.2\n"])
def test_our_own_key_wins_wherever_it_stands(first: str) -> None:
    result = import_text(f"model_name: m\n{first}")
    assert result.values["lora_dropout"] == 0.2
    assert "`lora_dropout` is already set to 0.2" in row(result, "dropout").message.text("en")


def test_a_wrong_value_of_our_own_key_stays_where_the_check_can_speak_of_it() -> None:
    result = import_text("model_name: m\nr: sixteen\ndropout: 0.1\n")
    assert result.values["r"] == "sixteen"
    assert [finding.key for finding in result.findings if finding.severity == "error"] == ["r"]


@pytest.mark.parametrize("tool_id", EXAMPLES)
def test_our_keys_in_another_tools_file_are_kept(tool_id: str) -> None:
    values = json.loads(EXAMPLES[tool_id]) if tool_id == "peft" else parse_config(EXAMPLES[tool_id]).values
    ours = {key: value for key, value in OURS.items() if TOOLS[tool_id].rule(key) is None}
    assert ours or tool_id == "original"
    text = dump_yaml({**values, **ours})
    result = import_text(text)
    assert result.tool == tool_id
    assert {key: result.values[key] for key in ours} == ours
    assert_nothing_is_lost(text, result)


@pytest.mark.parametrize("value", VALUES, ids=str)
@pytest.mark.parametrize("tool_id", TOOLS)
def test_each_key_of_each_tool_arrives_or_is_named_whatever_its_value(tool_id: str, value: Any) -> None:
    tool = TOOLS[tool_id]
    of_others = {key for other in TOOLS.values() if other.id != tool_id for key in other.markers - tool.markers}
    values: dict[str, Any] = {}
    for key in tool.rules:
        if key not in tool.sections and (key not in of_others or tool_id in INSIDE):
            section, _, inner = key.rpartition(".")
            if section in tool.sections:
                values.setdefault(section, {})[inner] = value
            else:
                values[key] = value
    text = dump_yaml(values)
    result = import_text(text)
    assert result.tool == tool_id
    assert_nothing_is_lost(text, result)


def test_what_stands_beside_a_path_and_beside_all_layers_is_named() -> None:
    entry = "base_model: m\nadapter: lora\ndatasets:\n  - path: d.jsonl\n    split: train[:10%]\n    shards: 4\n"
    said = row(import_text(entry), "datasets").message.text("en")
    assert '`split: "train[:10%]"`' in said
    assert "`shards: 4`" in said
    beside = row(import_text("finetuning_type: lora\nlora_target: all,lm_head\n"), "lora_target").message.text("en")
    assert "lm_head" in beside


@given(st.sampled_from(sorted(EXAMPLES)), st.data())
@settings(max_examples=40, deadline=None)
def test_a_mixture_of_a_tools_keys_ours_and_mistyped_ones_loses_nothing(tool_id: str, data: st.DataObject) -> None:
    values = json.loads(EXAMPLES[tool_id]) if tool_id == "peft" else dict(parse_config(EXAMPLES[tool_id]).values)
    extra = OURS | TYPOS
    for key in data.draw(st.lists(st.sampled_from(sorted(extra)), unique=True)):
        values.setdefault(key, extra[key])
    order = data.draw(st.permutations(sorted(values)))
    text = dump_yaml({key: values[key] for key in order})
    result = import_text(text)
    assert result.tool == tool_id
    assert_nothing_is_lost(text, result)
    for key in TYPOS.keys() & values.keys():
        assert same_value(result.values[key], TYPOS[key])
        assert any(finding.key == key and finding.severity == "error" for finding in result.findings)
