"""The reference in docs/ says what the code says, in both languages, and the JSON Schema agrees with the check."""

from __future__ import annotations

import json
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from lora_backend.config.check import check_config
from lora_backend.config.presets import PRESETS
from lora_backend.config.rules import RULES
from lora_backend.config.schema import KEYS, REQUIRED, default_config
from tools.docs.__main__ import out_of_date
from tools.docs.check_rules import rules_page
from tools.docs.common import DOCS
from tools.docs.config_keys import keys_page
from tools.docs.json_schema import config_json_schema
from tools.docs.resume_table import table as resume_table


def test_the_files_are_as_the_code_makes_them() -> None:
    assert list(out_of_date()) == [], "run `make docs`"


@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_key_every_preset_and_every_rule_is_there(language: str) -> None:
    keys, rules = keys_page(language), rules_page(language)
    assert all(f"| `{name}` |" in keys for name in KEYS)
    assert all(resume_table(language).count(f"`{name}`") == 1 for name in KEYS)
    assert all(f"### `{rule.code}` (" in rules for rule in RULES)
    assert keys.count("\n### ") == len(PRESETS)
    assert "# yaml-language-server: $schema=" in keys


def test_the_json_schema_has_every_key_with_its_default_help_and_unit() -> None:
    schema = json.loads((DOCS / "config.schema.json").read_text("utf-8"))
    assert schema["required"] == ["model_name"]
    assert schema["additionalProperties"] is False
    assert list(schema["properties"]) == list(KEYS)
    for name, key in KEYS.items():
        made = schema["properties"][name]
        assert made["description"].startswith(key.help)
        assert key.unit is None or f"[{key.unit}]" in made["description"]
        assert made.get("default", REQUIRED) == key.default
    assert "基座模型" in config_json_schema("zh")["properties"]["model_name"]["description"]


@pytest.mark.parametrize(
    ("key", "value"),
    [("r", 0), ("r", 4), ("alpha", 0), ("alpha", 1.5), ("alpha_pattern", {"q": 0}), ("alpha_pattern", {"q": 1.5}), ("learning_rate", 2), ("lora_dropout", 1), ("precision", "fp8"), ("pkg", "../x"), ("target_layers", [-1]),
     ("target_layers", [0]), ("rank_pattern", {"q": 0}), ("rank_pattern", {"q": 4}), ("seed", 2**32), ("nonsense", 1), ("use_dora", "yes")],
)  # fmt: skip
def test_the_json_schema_takes_what_the_check_takes(key: str, value: Any) -> None:
    validator = Draft202012Validator(config_json_schema())
    values = {"model_name": "m", key: value}
    wrong = {"wrong_type", "out_of_range", "unknown_key"}
    assert validator.is_valid(values) == (not wrong & {finding.code for finding in check_config(values).findings})
    assert validator.is_valid({"model_name": "m", **default_config()})
