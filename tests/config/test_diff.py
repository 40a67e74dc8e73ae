"""Differences: by value, by path, and by what a key that is not there means."""

from __future__ import annotations

from typing import Any

import pytest

from lora_backend.config.diff import ABSENT, DiffRow, diff_paths, is_difference
from lora_backend.config.schema import KEYS, default_config


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
