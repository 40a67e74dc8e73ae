"""Every changed setting of a resumed run is safe, restarts the schedule, or is refused, and says why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lora_backend.config.schema import KEYS
from lora_backend.runs.record.changes import classify
from tests.run_files import add_start, make_run, record_of

BATCH = ("batch_size", "target_batch_size")
OLD: dict[str, Any] = {"model_name": "m", "dataset": "d.jsonl", "batch_size": 4, "target_batch_size": 8}


def kinds(**changes: Any) -> dict[str, list[str]]:
    return {kind: list(found) for kind, found in classify(OLD, OLD | changes).items() if found}


def test_every_key_of_the_schema_is_safe_restarts_the_schedule_or_is_refused() -> None:
    for key in KEYS:
        found = classify(OLD, OLD | {key: "another value" if key not in BATCH else 2})
        assert [key in of_kind for of_kind in found.values()].count(True) == 1
        assert all("{" not in why.text("en") for of_kind in found.values() for why in of_kind.values())


def test_nothing_changed_is_nothing_to_say() -> None:
    assert kinds() == {}
    written_out = OLD | {"r": KEYS["r"].default, "learning_rate": 0.0001}
    assert not any(classify(OLD, written_out).values()), "a default written out is no change"


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({"save_steps": 7}, {"safe": ["save_steps"]}),
        ({"max_time": 2}, {"safe": ["max_time"]}),
        ({"optim": "adamw_torch"}, {"safe": ["optim"]}),
        ({"optim": "adafactor"}, {"refused": ["optim"]}),
        ({"learning_rate": 1e-5}, {"restarts_schedule": ["learning_rate"]}),
        ({"num_epochs": 9, "max_steps": 5}, {"restarts_schedule": ["num_epochs", "max_steps"]}),
        ({"r": 8}, {"refused": ["r"]}),
        ({"batching": "flat"}, {"safe": ["batching"]}),
        ({"batching": "packed"}, {"refused": ["batching"]}),
        ({"dataset": "other.jsonl"}, {"refused": ["dataset"]}),
        ({"precision": "bf16"}, {"refused": ["precision"]}),
        ({"no_such_key": 1}, {"refused": ["no_such_key"]}),
        ({"r": 8, "save_steps": 7}, {"safe": ["save_steps"], "refused": ["r"]}),
    ],
    ids=str,
)
def test_a_change_is_told_by_what_it_does(changes: dict[str, Any], wanted: dict[str, list[str]]) -> None:
    assert kinds(**changes) == wanted


def test_a_smaller_batch_is_safe_while_a_step_has_as_many_rows() -> None:
    assert kinds(batch_size=2) == {"safe": ["batch_size"]}
    assert kinds(batch_size=8, target_batch_size=None) == {"safe": ["batch_size", "target_batch_size"]}
    assert kinds(target_batch_size=None) == {"refused": ["target_batch_size"]}
    (reason,) = classify(OLD, OLD | {"batch_size": 16})["refused"].values()
    assert "8 → 16" in reason.text("en")


def test_changes_of_all_starts_add_up(tmp_path: Path) -> None:
    folder = make_run(tmp_path, config=OLD, config_text="", argv=None)
    assert folder.config_as_changed() == OLD
    add_start(folder)
    add_start(folder, changes={"learning_rate": 1e-5, "save_steps": 7})
    add_start(folder, changes={"learning_rate": 1e-6})
    add_start(folder, changes=None)
    assert folder.config_as_changed() == OLD | {"learning_rate": 1e-6, "save_steps": 7}
    assert record_of(folder)["config"] == OLD
