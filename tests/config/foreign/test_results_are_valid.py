"""Whatever stands in another tool's file, an import never makes a config of it that the check refuses for what the import wrote."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lora_backend.config.config_writing import dump_yaml
from lora_backend.config.foreign.import_file import import_text
from lora_backend.config.foreign.tools import TOOLS
from tests.config.foreign.accounting import assert_nothing_is_lost

HEADS: dict[str, dict[str, Any]] = {
    "llamafactory": {"model_name_or_path": "m", "finetuning_type": "lora", "stage": "sft", "cutoff_len": 64},
    "llamafactory_v1": {"model": "m", "model_class": "llm", "train_dataset": "a.jsonl", "sample_backend": "hf"},
    "axolotl": {"base_model": "m", "adapter": "lora", "micro_batch_size": 1, "sequence_len": 64},
    "unsloth": {"model": "m", "training": {"max_seq_length": 64}, "lora": {"lora_r": 8, "lora_alpha": 8}},
    "trl": {"model_name_or_path": "m", "use_peft": True, "dataset_name": "x", "completion_only_loss": True},
    "peft": {"peft_type": "LORA", "base_model_name_or_path": "m", "inference_mode": True},
    "training_arguments": {"model_name_or_path": "m", "num_train_epochs": 1, "per_device_train_batch_size": 2},
}
"""What each tool is told by."""
VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, 2, 3, 7, 8, 100, 1000, 0.1, 0.5, 0.99, 1.0, 1.5, -1, 2**70, float("inf"), "", "no", "yes", "steps", "epoch",
    "auto", "all", "q_proj", "q_proj,v_proj", "1e-4", "linear", "cosine", "constant", "adamw_torch", "muon", "lora", "none", "bf16", "org/x.jsonl", "nf4",
    "bnb", "pissa", "sdpa", ["q_proj"], [0, 1], [1, 2, 3], [], {}, {"a": 1}, {"q_proj": 4},
)  # fmt: skip


def test_every_tool_has_its_head() -> None:
    assert HEADS.keys() == TOOLS.keys() - {"original"}  # its keys are ours, and the check tells their mistakes


def text_of(tool_id: str, values: dict[str, Any]) -> str:
    """A file with the head of a tool, and `values` in the place of what it says for the same keys."""
    sections = TOOLS[tool_id].sections
    whole = {key: dict(value) if key in sections else value for key, value in HEADS[tool_id].items()}
    for key, value in values.items():
        section, _, inner = key.rpartition(".")
        if section in sections:
            whole.setdefault(section, {})[inner] = value
        else:
            whole[key] = value
    return dump_yaml(whole)


def assert_valid(tool_id: str, values: dict[str, Any]) -> None:
    text = text_of(tool_id, values)
    result = import_text(text)
    assert result.tool == tool_id
    assert_nothing_is_lost(text, result)
    errors = [finding for finding in result.findings if finding.severity == "error" and finding.code != "missing_key"]
    assert not errors, [(finding.code, finding.key, result.text) for finding in errors]


@pytest.mark.parametrize("tool_id", HEADS)
def test_a_file_with_each_key_alone_is_valid(tool_id: str) -> None:
    """At one value of each kind that decides something."""
    tool = TOOLS[tool_id]
    for key in tool.rules.keys() - tool.sections:
        for value in (3, 0.1, float("inf"), "steps"):
            if tool.rules[key].targets or value == 3:
                assert_valid(tool_id, {key: value})


@given(st.sampled_from(sorted(HEADS)), st.data())
@settings(max_examples=150, deadline=None)
def test_a_file_with_any_keys_at_any_values_is_valid(tool_id: str, data: st.DataObject) -> None:
    tool = TOOLS[tool_id]
    carried = sorted(key for key, rule in tool.rules.items() if rule.targets and key not in tool.sections)
    assert_valid(tool_id, data.draw(st.dictionaries(st.sampled_from(carried), st.sampled_from(VALUES), max_size=8)))
