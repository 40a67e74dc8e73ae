"""Each key of the schema by itself: what it takes, what it refuses, and whether the advice is any good."""

from __future__ import annotations

import math
import re
from typing import Any, get_args

import pytest

from lora_backend.config.check import check_config
from lora_backend.config.config_text import parse_config
from lora_backend.config.config_writing import dump_yaml
from lora_backend.config.findings import Finding
from lora_backend.config.schema import KEYS, REQUIRED

LOWEST_AND_BELOW: dict[str, tuple[Any, Any]] = {
    "max_length": (2, 1), "r": (1, 0), "alpha": (1e-9, 0), "lora_dropout": (0, -1e-9), "num_epochs": (1e-9, 0), "max_steps": (1, 0),
    "max_time": (1e-9, 0), "max_bad_rows": (0, -1),
    "learning_rate": (1e-12, 0), "warmup_ratio": (0, -1e-9), "batch_size": (1, 0), "target_batch_size": (4, 0), "weight_decay": (0, -1e-9),
    "max_grad_norm": (0, -1e-9), "seed": (0, -1), "val_size": (0, -1e-9), "eval_steps": (1, 0), "save_steps": (1, 0),
    "label_smoothing_factor": (0, -1e-9), "neftune_noise_alpha": (1e-9, 0), "loraplus_lr_ratio": (1, 0.999),
    "early_stopping_patience": (1, 0), "early_stopping_threshold": (0, -1e-9), "sample_every_steps": (1, 0),
    "save_total_limit": (1, 0), "logging_steps": (1, 0), "min_memory_gb": (0, -1e-9),
    "num_processes": (1, 0), "num_nodes": (1, 0),
}  # fmt: skip
"""Every key that is one number: the lowest value that it takes, and one below."""
HIGHEST_AND_ABOVE: dict[str, tuple[Any, Any]] = {
    "r": (65536, 65537), "lora_dropout": (0.999, 1), "learning_rate": (1, 1.001), "warmup_ratio": (0.999, 1), "weight_decay": (1, 1.001),
    "label_smoothing_factor": (0.999, 1), "seed": (2**32 - 1, 2**32), "val_size": (0.999, 1.0),
    "num_processes": (64, 65), "num_nodes": (64, 65),
}  # fmt: skip
NUMBERS = sorted(LOWEST_AND_BELOW)
NEEDS: dict[str, dict[str, Any]] = {
    "early_stopping_patience": {"eval_strategy": "epoch", "val_size": 0.1},
    "num_processes": {"batch_size": 1, "target_batch_size": 64},
    "num_nodes": {"batch_size": 1, "target_batch_size": 64},
}
"""Key → others without which it asks for nothing that could be done."""
INSIDE: list[tuple[str, Any]] = [
    ("rank_pattern", {"q": True}), ("rank_pattern", {"q": 0}), ("rank_pattern", {"q": math.nan}), ("alpha_pattern", {"q": "8"}),
    ("alpha_pattern", {"q": math.inf}), ("target_layers", [True]), ("target_layers", ["0"]), ("target_layers", [1.0]),
    ("target_modules", ["q", 1]), ("target_modules", [""]), ("modules_to_save", [None]), ("device_map", {"model": None}),
    ("device_map", {"model": True}),
]  # fmt: skip


def errors(**values: Any) -> list[Finding]:
    return check_config({"model_name": "m", **values}).errors


def refused(key: str, value: Any) -> Finding:
    (found,) = errors(**{key: value})
    assert found.key == key
    assert f"`{key}`" in found.message.text("en")
    return found


def is_number(annotation: Any) -> bool:
    """Whether a key is one number, if perhaps none."""
    kinds = {kind for kind in (annotation, *get_args(annotation)) if kind is not type(None)}
    parts = {get_args(kind)[0] if hasattr(kind, "__metadata__") else kind for kind in kinds}
    parts |= {member for part in parts for member in get_args(part)}  # `int | float` within
    return bool(parts & {int, float}) and dict not in {getattr(kind, "__origin__", kind) for kind in kinds}


def test_every_key_that_is_a_number_has_its_bounds_tested_here() -> None:
    assert {name for name, key in KEYS.items() if is_number(key.annotation)} == set(NUMBERS)


@pytest.mark.parametrize("key", [name for name, key in KEYS.items() if key.default is not REQUIRED])
def test_a_default_written_out_is_good_and_no_difference(key: str) -> None:
    result = check_config(parse_config(dump_yaml({"model_name": "m", key: KEYS[key].default})))
    assert result.findings == ()
    assert key not in result.differences


@pytest.mark.parametrize("key", NUMBERS)
def test_the_lowest_value_is_taken_and_the_next_below_is_out_of_range(key: str) -> None:
    lowest, below = LOWEST_AND_BELOW[key]
    assert errors(**NEEDS.get(key, {}), **{key: lowest}) == []
    assert refused(key, below).code == "out_of_range"


@pytest.mark.parametrize("key", sorted(HIGHEST_AND_ABOVE))
def test_the_highest_value_is_taken_and_the_next_above_is_out_of_range(key: str) -> None:
    highest, above = HIGHEST_AND_ABOVE[key]
    assert errors(**NEEDS.get(key, {}), **{key: highest}) == []
    assert refused(key, above).code == "out_of_range"


@pytest.mark.parametrize("value", [True, False, "3", "1e-4", math.nan, math.inf, -math.inf, [1], {}, 10**400])
@pytest.mark.parametrize("key", NUMBERS)
def test_a_number_is_a_finite_number_and_nothing_else(key: str, value: Any) -> None:
    refused(key, value)


@pytest.mark.parametrize("value", [0, 1, "true", "yes", None])
@pytest.mark.parametrize("key", [name for name, key in KEYS.items() if key.annotation is bool])
def test_a_switch_is_true_or_false_and_nothing_else(key: str, value: Any) -> None:
    assert refused(key, value).code == "wrong_type"


@pytest.mark.parametrize("name", ["../up", "a/b", "a\\b", "..", ".hidden", "", "a\0b", "x" * 101, 1.0])
@pytest.mark.parametrize("key", ["pkg", "version", "knowledge_type"])
def test_a_published_name_is_one_folder_and_no_way_out(key: str, name: Any) -> None:
    assert refused(key, name).code == "wrong_type"


@pytest.mark.parametrize(("key", "value"), INSIDE)
def test_what_is_wrong_inside_a_list_or_a_mapping_names_the_key(key: str, value: Any) -> None:
    refused(key, value)


QUOTED = [("r", "16"), ("learning_rate", "1e-4"), ("use_dora", "true"), ("use_dora", "True"), ("val_size", "0.5")]
WRONG_ANYHOW = [
    ("learning_rate", "1.2.3"), ("precision", "16"), ("target_layers", "0"), ("device_map", "1"), ("r", "1.5"), ("seed", "-1"), ("bias", "false"), ("eval_strategy", "true"),
]  # fmt: skip


@pytest.mark.parametrize(("key", "text"), QUOTED)
def test_who_follows_the_advice_to_drop_the_quotes_has_a_good_config(key: str, text: str) -> None:
    told = re.fullmatch(r"The value is text\. Write it without quotes: `(.+)`\.", refused(key, text).remedy.text("en"))
    assert told
    assert errors(**parse_config(f"{told[1]}\n").values) == []


@pytest.mark.parametrize(("key", "text"), WRONG_ANYHOW)
def test_a_value_that_is_wrong_without_its_quotes_too_is_not_told_to_drop_them(key: str, text: str) -> None:
    assert refused(key, text).remedy.text("en") == f"Change the value of `{key}`."
    assert errors(**parse_config(f"{key}: {text}\n").values)


class Counted(int):
    """A number that counts how often it is compared."""

    comparisons = 0

    def __eq__(self, other: object) -> bool:
        Counted.comparisons += 1
        return int(self) == other

    __hash__ = int.__hash__


def test_a_list_is_not_gone_through_once_for_each_of_its_entries() -> None:
    """A list of 100,000 entries fits into a config file; comparing each with each would take minutes."""
    Counted.comparisons = 0
    layers = [*map(Counted, range(2_000)), Counted(0)]
    found = check_config({"model_name": "m", "target_layers": layers}).findings
    assert [finding.code for finding in found] == ["repeated_entry"]
    assert Counted.comparisons < 20 * len(layers)


def test_long_names_that_differ_at_their_end_are_not_the_same() -> None:
    start = "model.language_model.layers." + "a_module_of_a_long_name." * 4
    result = check_config({"model_name": "m", "target_modules": [f"{start}q_proj", f"{start}v_proj"]})
    assert result.findings == ()


def test_a_sentence_about_a_long_value_stays_short() -> None:
    (found,) = errors(r="x" * 100_000)
    assert len(found.message.text("en")) < 400


def test_only_the_keys_that_are_there_are_not_missing() -> None:
    result = check_config({"model_name": "m", "r": "wrong", "nonsense": 1})
    assert set(result.missing) == KEYS.keys() - {"model_name", "r"}
    assert result.recommended_config["r"] == KEYS["r"].default
    assert "nonsense" not in result.recommended_config


@pytest.mark.parametrize(
    ("written", "near"),
    [("learning-rate", "learning_rate"), ("lr_scheduler", "lr_scheduler_type"), ("target_module", "target_modules"), ("R_pattern", "rank_pattern")],
)  # fmt: skip
def test_a_key_that_is_nearly_right_is_told_the_right_one(written: str, near: str) -> None:
    assert f"`{near}`" in refused(written, 1).remedy.text("en")


def test_a_key_like_no_other_gets_no_guess() -> None:
    assert "Did you mean" not in refused("qqqq", 1).remedy.text("en")
