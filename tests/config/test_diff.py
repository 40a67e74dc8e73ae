"""Differences: by value, by path, and by what a key that is not there means."""

from __future__ import annotations

from typing import Any

import pytest

from lora_backend.config.check_report import diff_text
from lora_backend.config.diff import ABSENT, DiffRow, diff_paths, fold, is_difference
from lora_backend.config.schema import KEYS, default_config
from lora_backend.config.short_values import FOLD_ABOVE, in_short


def rows(values: dict[str, Any], base: dict[str, Any]) -> dict[str, tuple[str, Any, Any]]:
    return {row.key: (row.status, row.base, row.value) for row in diff_paths(values, base, KEYS)}


def test_every_status_is_told_apart() -> None:
    found = rows({"r": 8, "alpha": 32, "seed": 1, "lora_rank": 3}, {"r": 16, "alpha": 32, "optim": "sgd"})
    assert {key: status for key, (status, _, _) in found.items()} == {
        "r": "changed", "alpha": "equal", "seed": "added", "optim": "missing", "lora_rank": "unknown",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("one", "other", "status"),
    [
        (1e-4, 0.0001, "equal"),
        (3, 3.0, "equal"),
        (True, 1, "changed"),
        ("16", 16, "changed"),
        ([1, 2], [2, 1], "changed"),
    ],
)
def test_values_are_compared_by_what_they_mean(one: Any, other: Any, status: str) -> None:
    assert rows({"r": one}, {"r": other})["r"][0] == status


def test_nested_values_are_told_by_their_path() -> None:
    found = rows(
        {"rank_pattern": {"q_proj": 8, "v_proj": 4, "layers.0.o_proj": 2}},
        {"rank_pattern": {"q_proj": 16, "v_proj": 4, "k_proj": 1}},
    )
    assert found == {
        "rank_pattern[q_proj]": ("changed", 16, 8),
        "rank_pattern[v_proj]": ("equal", 4, 4),
        "rank_pattern[k_proj]": ("missing", 1, ABSENT),
        "rank_pattern[layers.0.o_proj]": ("added", ABSENT, 2),
    }


def test_a_mapping_against_none_is_all_added_and_against_a_word_is_changed() -> None:
    assert rows({"rank_pattern": {"q_proj": 8}}, default_config())["rank_pattern[q_proj]"] == ("added", ABSENT, 8)
    assert rows({"device_map": {"": 0}}, {"device_map": "auto"})["device_map"] == ("changed", "auto", {"": 0})


def test_rows_follow_the_schema_and_unknown_keys_come_last() -> None:
    found = list(rows({"zzz": 1, "seed": 1, "model_name": "m"}, {"r": 4}))
    assert found == ["model_name", "r", "seed", "zzz"]


@pytest.mark.parametrize(
    ("row", "differs"),
    [
        (DiffRow("r", "missing", 16, ABSENT), False),
        (DiffRow("use_balanced_device_map", "missing", True, ABSENT), True),
        (DiffRow("r", "added", ABSENT, 16), False),
        (DiffRow("r", "added", ABSENT, 8), True),
        (DiffRow("rank_pattern[q_proj]", "missing", 16, ABSENT), True),
        (DiffRow("lora_rank", "unknown", ABSENT, 16), True),
        (DiffRow("wandb_project", "unknown", "x", ABSENT), False),
        (DiffRow("r", "equal", 16, 16), False),
    ],
)
def test_a_key_that_a_side_lacks_means_its_default(row: DiffRow, differs: bool) -> None:
    assert is_difference(row, default_config()) is differs


def test_the_key_of_a_path_is_the_configs_own() -> None:
    assert DiffRow("rank_pattern[layers.0.q_proj]", "added", ABSENT, 2).top_key == "rank_pattern"


PLACED = {"model.embed_tokens": 0, **{f"model.layers.{block}": block // 27 for block in range(80)}, "lm_head": 2}


def test_a_map_of_80_blocks_is_one_row_with_its_rows_inside() -> None:
    values = {"r": 8, "device_map": PLACED}
    found = diff_paths(values, {"r": 16, "device_map": None}, KEYS)
    assert len(found) == 83
    placed, r = fold(found, values, {"r": 16, "device_map": None})
    assert (r.row.key, r.inside) == ("r", ())
    assert (placed.row.key, placed.row.status, placed.row.base) == ("device_map", "added", None)
    assert len(placed.inside) == 82
    assert in_short("device_map", placed.row.value, language="en") == "80 blocks on 3 GPUs"


def test_few_rows_of_a_map_are_shown_each_and_mixed_ones_are_a_change() -> None:
    few = {f"q{number}": 8 for number in range(FOLD_ABOVE)}
    folded = fold(diff_paths({"rank_pattern": few}, {}, KEYS), {"rank_pattern": few}, {})
    assert len(folded) == FOLD_ABOVE
    base = {"device_map": PLACED | {"model.layers.0": 1}}
    (one,) = fold(diff_paths({"device_map": PLACED}, base, KEYS), {"device_map": PLACED}, base)
    assert (one.row.status, one.row.base) == ("changed", base["device_map"])


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("device_map", {f"model.layers.{block}": 0 for block in range(12)}, "12 blocks on 1 GPU"),
        ("device_map", {f"h.{block}": "cpu" if block else 0 for block in range(12)}, "12 blocks on 2 devices"),
        ("device_map", {f"part_{part}": part % 2 for part in range(12)}, "12 modules on 2 GPUs"),
        ("device_map", {"": 0}, '{"": 0}'),
        ("rank_pattern", {f"layers.{block}.q_proj": 8 for block in range(12)}, "12 entries"),
        ("target_layers", list(range(12)), "[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]"),
    ],
)
def test_a_long_map_is_said_by_what_is_in_it(key: str, value: Any, said: str) -> None:
    assert in_short(key, value, language="en") == said


def test_on_the_command_line_a_long_map_is_one_line_too() -> None:
    shown = diff_text([DiffRow("device_map", "added", ABSENT, PLACED)], "en")
    assert shown == "+ device_map: – → 80 blocks on 3 GPUs (added)"
