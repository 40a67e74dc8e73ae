"""A run's GPUs have the machine's numbers in its attempt, and the trainer's in the trainer alone."""

from __future__ import annotations

from typing import Any

import pytest

from lora_backend.runs.record.attempts import Attempt
from lora_backend.runs.record.numbering import as_planned, in_trainer, shown_uuids, trainer_numbers

PLAN: dict[str, Any] = {
    "devices": [
        {"index": 0, "uuid": "GPU-a", "total_bytes": 0},
        {"index": 1, "uuid": "GPU-b", "total_bytes": 20},
        {"index": 2, "uuid": "GPU-c", "total_bytes": 30},
    ],
    "assignment": [2, 2, 1],
}
ATTEMPT = {
    "plan": PLAN,
    "device_uuids": ["GPU-c", "GPU-b"],
    "environment": {"CUDA_VISIBLE_DEVICES": "GPU-c,GPU-b"},
}
OLDER = {
    "plan": {**PLAN, "devices": [{key: device[key] for key in ("index", "total_bytes")} for device in PLAN["devices"]]},
    "device_uuids": ["GPU-b", "GPU-c"],
    "environment": {"CUDA_VISIBLE_DEVICES": "GPU-a,GPU-b,GPU-c"},
}


def test_the_embeddings_gpu_is_the_trainers_first_and_comes_back_as_its_own() -> None:
    assert trainer_numbers(Attempt.read(ATTEMPT)) == {2: 0, 1: 1}
    given: dict[str, int | str] = {"embed": 2, "block": "cuda:2", "head": 1, "tower": "cpu"}
    assert in_trainer(given, Attempt.read(ATTEMPT)) == {"embed": 0, "block": 0, "head": 1, "tower": "cpu"}
    assert [as_planned(place, Attempt.read(ATTEMPT)) for place in (0, 1, "cpu")] == [2, 1, "cpu"]


def test_planned_bytes_belong_to_the_gpus_that_are_named_whatever_the_order() -> None:
    assert Attempt.read(ATTEMPT).planned_bytes == {"GPU-b": 20, "GPU-c": 30}
    assert Attempt.read(OLDER).planned_bytes == {"GPU-b": 20, "GPU-c": 30}


@pytest.mark.parametrize(
    "attempt",
    [
        OLDER,
        {},
        {"plan": None, "environment": {"CUDA_VISIBLE_DEVICES": "GPU-a"}},
        {"plan": {"devices": [{"index": "cpu", "uuid": None}]}, "environment": {"CUDA_VISIBLE_DEVICES": "-1"}},
        {"plan": PLAN, "environment": {}},
        {"plan": PLAN, "environment": None},
    ],
)
def test_where_no_gpu_was_hidden_by_name_all_numbers_stay(attempt: dict[str, Any]) -> None:
    assert trainer_numbers(Attempt.read(attempt)) == {}
    assert in_trainer({"embed": 2}, Attempt.read(attempt)) == {"embed": 2}
    assert as_planned(1, Attempt.read(attempt)) == 1


def test_a_trainer_is_shown_what_its_variable_names() -> None:
    assert shown_uuids(Attempt.read(ATTEMPT)) == ["GPU-c", "GPU-b"]
    assert shown_uuids(Attempt.read({"environment": {"CUDA_VISIBLE_DEVICES": "-1"}})) == []
