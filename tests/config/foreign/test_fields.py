"""Every field that the installed libraries have is known to the importer, with the library's own default."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from peft import LoraConfig
from transformers import Seq2SeqTrainingArguments, TrainingArguments
from trl import DPOConfig, GRPOConfig, KTOConfig, ModelConfig, RewardConfig, RLOOConfig, ScriptArguments, SFTConfig
from trl.scripts.utils import DatasetMixtureConfig

from lora_backend.config.diff import same_value
from lora_backend.config.foreign import peft, training_arguments, trl
from lora_backend.config.foreign.flat_source import Source
from lora_backend.config.foreign.key_mapping import Tool
from lora_backend.config.foreign.tools import TOOLS


def fields(*classes: Any) -> dict[str, Any]:
    """Field → default, where it has a plain one; later classes win."""
    return {field.name: field.default for found in classes for field in dataclasses.fields(found)}


LIBRARY: dict[str, dict[str, Any]] = {
    "peft": fields(LoraConfig),
    "training_arguments": fields(Seq2SeqTrainingArguments, TrainingArguments),
    "trl": fields(TrainingArguments, SFTConfig, ModelConfig, ScriptArguments, DatasetMixtureConfig),
    "llamafactory": fields(Seq2SeqTrainingArguments, TrainingArguments),
}


@pytest.mark.parametrize("tool_id", LIBRARY)
def test_no_field_of_the_library_is_unknown(tool_id: str) -> None:
    assert [name for name in LIBRARY[tool_id] if TOOLS[tool_id].rule(name) is None] == []


@pytest.mark.parametrize("other", [DPOConfig, KTOConfig, GRPOConfig, RLOOConfig, RewardConfig])
def test_no_field_of_another_method_is_unknown(other: type) -> None:
    assert [name for name in fields(other) if TOOLS["trl"].rule(name) is None] == []


@pytest.mark.parametrize(
    ("library", "ours"),
    [
        (LIBRARY["peft"], peft.ABSENT),
        (fields(TrainingArguments), training_arguments.ABSENT),
        (LIBRARY["trl"], trl.WITH_DEFAULTS),
    ],
)
def test_defaults_that_lose_nothing_are_the_librarys(library: dict[str, Any], ours: dict[str, dict[str, Any]]) -> None:
    for names in ours.values():
        for name, default in names.items():
            theirs = library.get(name, dataclasses.MISSING)
            if theirs is not dataclasses.MISSING and default not in (None, "", False, {}):
                assert same_value(default, theirs), name


@pytest.mark.parametrize(
    ("tool", "library"),
    [
        (TOOLS["peft"], LIBRARY["peft"]),
        (TOOLS["training_arguments"], fields(TrainingArguments)),
        (TOOLS["trl"], LIBRARY["trl"]),
    ],
)
def test_what_is_assumed_for_a_key_that_is_not_there_is_the_librarys_default(
    tool: Tool, library: dict[str, Any]
) -> None:
    for name, value in tool.defaults({}).items():
        if name not in ("bf16", "peft_config"):  # None there stands for “unless fp16 is on”, and it is no field
            assert same_value(value, library[name]), name


@pytest.mark.parametrize("tool_id", TOOLS)
def test_no_value_breaks_a_rule(tool_id: str) -> None:
    """Whatever stands for a key: an outcome, and a sentence in both languages."""
    tool = TOOLS[tool_id]
    for name in tool.rules:
        for value in (
            None,
            True,
            False,
            0,
            -1,
            3,
            0.5,
            float("nan"),
            2**80,
            "",
            "no",
            "1e-4",
            "x,y",
            [],
            ["a"],
            [1, []],
            {},
            {"a": [1]},
        ):
            rule = tool.rule(name)
            assert rule is not None
            carried = rule.apply(Source({name: value}, {}, tool.defaults({name: value})), name)
            assert carried.outcome in ("taken", "translated", "not_supported")
            assert carried.message.text("en")
            assert carried.message.text("zh")
