"""A checkpoint is whole or it is passed over; which are kept goes by step and loss, never by the clock."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from lora_backend.runs.checkpoints.manifest import (
    checkpoints_of,
    newest_whole,
    put_in_place,
    remove,
    rotate,
    set_aside,
    sweep,
    verified,
    write_manifest,
)
from lora_backend.runs.record.run_store import RunStore


@pytest.fixture
def run(tmp_path: Path) -> RunStore:
    folder = RunStore(tmp_path / "run")
    folder.checkpoints.mkdir(parents=True)
    return folder


def written(run: RunStore, step: int, place: str | None = None) -> Path:
    path = run.checkpoints / (place or f"checkpoint-{step}")
    (path / "inner").mkdir(parents=True)
    (path / "weights").write_bytes(b"w" * step)
    (path / "inner" / "state.json").write_text("{}")
    write_manifest(path, step)
    return path


def names(run: RunStore) -> list[str]:
    return [path.name for path in checkpoints_of(run)]


def test_a_whole_checkpoint_has_no_problems_and_its_manifest_lists_every_file(run: RunStore) -> None:
    path = written(run, 10)
    assert verified(path) == []
    manifest = json.loads((path / "manifest.json").read_text())
    assert (manifest["format"], manifest["step"]) == (1, 10)
    assert manifest["files"].keys() == {"weights", "inner/state.json"}
    assert manifest["files"]["weights"]["size"] == 10


def _manifest(path: Path, **changes: object) -> None:
    file = path / "manifest.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "emptied": (lambda path: (path / "weights").write_bytes(b""), "weights: 0 bytes, not 10"),
    "one byte changed": (lambda path: (path / "weights").write_bytes(b"w" * 9 + b"x"), "weights: sha256 differs"),
    "gone": (lambda path: (path / "inner/state.json").unlink(), "inner/state.json: missing"),
    "no manifest": (lambda path: (path / "manifest.json").unlink(), "manifest.json: missing"),
    "half a manifest": (lambda path: (path / "manifest.json").write_text('{"format": 1, "fi'), "manifest.json: cannot be read"),
    "no such manifest": (lambda path: (path / "manifest.json").write_text("[]"), "manifest.json: is no manifest"),
    "a newer format": (lambda path: _manifest(path, format=2), "manifest.json: format 2, not 1"),
    "of another step": (lambda path: _manifest(path, step=11), "manifest.json: of step 11"),
    "a file outside": (lambda path: _manifest(path, files={"../../run.json": {}}), "../../run.json: is no file of a checkpoint"),
}  # fmt: skip


@pytest.mark.parametrize("kind", DAMAGE)
def test_what_is_damaged_is_said_and_the_one_before_is_taken(kind: str, run: RunStore) -> None:
    damage, said = DAMAGE[kind]
    before, path = written(run, 9), written(run, 10)
    damage(path)
    assert verified(path) == [said]
    found, passed_over = newest_whole(run)
    assert found == before
    assert [(one.path, one.problems) for one in passed_over] == [(path, (said,))]


def test_steps_are_numbers_and_other_folders_are_no_checkpoints(run: RunStore) -> None:
    for step in (100, 9, 20):
        written(run, step)
    for other in ("checkpoint-x", ".checkpoint-300.new", "checkpoint-", "old-checkpoint-7"):
        (run.checkpoints / other).mkdir()
    assert names(run) == ["checkpoint-9", "checkpoint-20", "checkpoint-100"]
    assert newest_whole(run)[0] == run.checkpoints / "checkpoint-100"
    assert newest_whole(run, before=100)[0] == run.checkpoints / "checkpoint-20"
    assert newest_whole(RunStore(run.path / "none")) == (None, [])


def test_the_last_ones_and_the_best_are_kept_whatever_the_clock_said(run: RunStore) -> None:
    for step in range(1, 7):
        os.utime(written(run, step), (2_000_000_000 - step, 2_000_000_000 - step))  # the newest looks the oldest
    removed = rotate(run, 3, {1: 0.9, 2: 0.5, 4: 0.7, 5: 0.6})
    assert names(run) == ["checkpoint-2", "checkpoint-4", "checkpoint-5", "checkpoint-6"]
    assert [path.name for path in removed] == ["checkpoint-1", "checkpoint-3"]


@pytest.mark.parametrize(("keep", "left"), [(1, 2), (2, 2), (3, 3), (None, 6)])
def test_at_least_two_are_kept(keep: int | None, left: int, run: RunStore) -> None:
    for step in range(1, 7):
        written(run, step)
    rotate(run, keep, {})
    assert len(names(run)) == left
    assert names(run)[-1] == "checkpoint-6"


def test_a_new_checkpoint_takes_the_place_of_a_damaged_one(run: RunStore) -> None:
    (written(run, 5) / "weights").unlink()
    put_in_place(written(run, 5, ".aside"), run.checkpoints / "checkpoint-5")
    assert verified(run.checkpoints / "checkpoint-5") == []
    assert [path.name for path in run.checkpoints.iterdir()] == ["checkpoint-5"]


def test_what_a_kill_left_half_done_is_swept_and_the_rest_stays(run: RunStore) -> None:
    written(run, 5)
    for name in (".checkpoint-6.new", ".checkpoint-1.old"):
        (run.checkpoints / name / "inner").mkdir(parents=True)
    sweep(run)
    assert [path.name for path in run.checkpoints.iterdir()] == ["checkpoint-5"]


def test_what_is_set_aside_is_kept_until_the_next_resume(run: RunStore) -> None:
    first, second = written(run, 5), written(run, 6)
    set_aside(run, [second])
    assert names(run) == ["checkpoint-5"]
    assert (run.checkpoints / ".set-aside/checkpoint-6/weights").exists()
    set_aside(run, [])
    assert [path.name for path in run.checkpoints.iterdir()] == [first.name]
    remove(run.checkpoints / "checkpoint-99")
