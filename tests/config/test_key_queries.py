"""What the schema says of a key holds where it is used: names in libraries, what a plan depends on, which keys are paths."""

from __future__ import annotations

from dataclasses import fields

import pytest
from peft import LoraConfig
from transformers import TrainingArguments

from lora_backend.config.foreign.tools import TOOLS
from lora_backend.config.key_queries import keys_affecting, keys_of_path, names_in, planned_keys
from lora_backend.config.schema import KEYS
from lora_backend.planning.cost.trace_settings import TraceSettings


def test_the_trainers_names_are_fields_of_transformers() -> None:
    known = {field.name for field in fields(TrainingArguments)}
    assert {key.trainer for key in KEYS.values() if key.trainer} <= known


def test_pefts_names_are_fields_of_its_config() -> None:
    assert set(names_in("peft").values()) <= {field.name for field in fields(LoraConfig)}


@pytest.mark.parametrize("tool", sorted({tool for key in KEYS.values() for tool in key.foreign}))
def test_a_tools_names_are_read_back_as_the_keys_that_they_are_written_for(tool: str) -> None:
    for ours, theirs in names_in(tool).items():
        rule = TOOLS[tool].rules[theirs]
        assert rule.targets == (ours,), theirs


def test_what_a_trace_belongs_to_is_among_what_a_plan_depends_on() -> None:
    assert {field.name for field in fields(TraceSettings)} & KEYS.keys() <= keys_affecting("memory")


def test_what_the_plan_is_asked_changes_its_answer() -> None:
    assert planned_keys().keys() <= keys_affecting("memory", "steps")


def test_a_path_is_another_one_on_another_machine() -> None:
    paths = {*keys_of_path("model"), *keys_of_path("adapter"), *keys_of_path("rows"), *keys_of_path("published")}
    assert not any(KEYS[name].portable for name in paths)
    assert {name for name, key in KEYS.items() if not key.portable} == paths | {"overwrite"}
