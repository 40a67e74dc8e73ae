"""One type for what a fix, a remedy and a form do to a config: keys set, keys taken out."""

from __future__ import annotations

import json
from typing import Any

from lora_backend.config.config_text import parse_config
from lora_backend.config.config_writing import with_values
from lora_backend.config.patch import DELETE, Patch
from lora_backend.config.schema import KEYS, TrainingConfig
from lora_backend.planning.planner import with_changes

TEXT = "# mine\nmodel_name: m\nsave_total_limit: 2\nr: 8\n"
PATCH = Patch({"save_total_limit": DELETE, "r": 4, "target_layers": None})


def test_text_values_and_typed_config_come_to_the_same() -> None:
    wanted: dict[str, Any] = {"model_name": "m", "r": 4, "target_layers": None}
    assert PATCH.applied_to(parse_config(TEXT).values) == wanted
    assert parse_config(with_values(TEXT, PATCH)).values == wanted
    typed = TrainingConfig(model_name="m", save_total_limit=2, r=8)
    assert with_changes(typed, **PATCH) == TrainingConfig(**wanted)


def test_a_key_that_is_taken_out_is_recorded_as_its_default_and_printed_as_null() -> None:
    assert PATCH.as_values() == {"save_total_limit": KEYS["save_total_limit"].default, "r": 4, "target_layers": None}
    assert json.loads(json.dumps(PATCH.to_json())) == {"save_total_limit": None, "r": 4, "target_layers": None}


def test_of_two_patches_the_second_wins() -> None:
    assert PATCH | {"r": DELETE} == {"save_total_limit": DELETE, "r": DELETE, "target_layers": None}
