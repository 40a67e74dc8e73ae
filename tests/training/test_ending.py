"""A run that ends before its last step, or saves on request: by `save.request`, by `max_time`, by a loss that is no number."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lora_backend.errors import FlightdeckError
from lora_backend.runs.checkpoints.manifest import checkpoints_of, newest_whole, verified
from lora_backend.runs.record.transitions import request_stop
from lora_backend.trainer.direct_run import train_in_folder
from tests.run_files import points_of
from tests.tiny import chats, make_word_nan, write_rows
from tests.training.helpers import adapter_bytes, at_line, curve, failed_run, made, resumed, run

Make = Callable[..., dict[str, Any]]


def test_a_save_request_saves_at_the_end_of_the_step_and_the_run_goes_on(config: Make, workspace: Path) -> None:
    folder = made(workspace, config(save_total_limit=None))
    request = folder.save_request
    seen: list[tuple[bool, int]] = []
    with (
        at_line("step 4 of", request.touch),
        at_line("step 6 of", lambda: seen.append((request.exists(), len(checkpoints_of(folder))))),
    ):
        train_in_folder(folder)
    assert folder.state().state == "finished"
    assert seen == [(False, 1)], "the request is gone when the checkpoint is there"
    assert [path.name for path in checkpoints_of(folder)] == ["checkpoint-5", "checkpoint-16"]
    assert all(verified(path) == [] for path in checkpoints_of(folder))


def test_a_run_whose_time_is_over_saves_stops_and_can_be_resumed(config: Make, workspace: Path) -> None:
    whole = run(workspace, config(lora_dropout=0.1, num_epochs=2))
    folder = run(workspace, config(lora_dropout=0.1, num_epochs=2, max_time=1e-9))
    state = folder.state()
    assert (state.state, state.cause, state.step) == ("stopped", "max_time", 1)
    assert state.message is not None
    assert "to continue after step 1" in state.message.text("en")
    assert not folder.adapter.exists()
    resumed(folder, {"max_time": None})
    assert (folder.state().state, folder.state().cause) == ("finished", None)
    assert curve(folder) == curve(whole)
    assert adapter_bytes(folder) == adapter_bytes(whole)


def test_a_stop_has_no_cause(config: Make, workspace: Path) -> None:
    folder = made(workspace, config())
    with at_line("step 3 of", lambda: request_stop(folder)):
        train_in_folder(folder)
    assert (folder.state().state, folder.state().cause, folder.state().message) == ("stopped", None, None)


@pytest.fixture
def bad_row(tiny_model: Path, tmp_path: Path) -> dict[str, Any]:
    """Keys of a config under which one row among sixteen makes the loss NaN, on whatever processor: the base model's
    embedding of a word that no other row holds is NaN. No rounding decides that, as it would for a high learning rate."""
    model = make_word_nan(shutil.copytree(tiny_model, tmp_path / "bad_model"), "green")
    rows = [row for row in chats(8) if "green" not in json.dumps(row)][:15]
    rows.append(next(row for row in chats() if "green" in json.dumps(row)))
    data = write_rows(tmp_path / "one_bad.jsonl", rows)
    return {"model_name": str(model), "dataset": str(data), "save_steps": 1, "num_epochs": 1, "save_total_limit": None}


def test_a_loss_that_is_no_number_ends_the_run_and_keeps_the_last_good_checkpoint(
    config: Make, workspace: Path, bad_row: dict[str, Any]
) -> None:
    folder, sentence = failed_run(workspace, config(**bad_row), FlightdeckError)
    assert folder.state().cause == "nan_loss"
    steps = [row["step"] for row in points_of(folder) if "loss" in row]
    assert steps[-1] > 1, "the seed puts the bad row behind the first step, so that something was saved before"
    assert [row["step"] for row in points_of(folder) if row.get("loss") is None] == steps[-1:]
    assert f"Checkpoint {steps[-1] - 1} is the last good one" in sentence
    assert "learning_rate" in sentence
    newest, damaged = newest_whole(folder)
    assert newest is not None
    assert (newest.name, damaged) == (f"checkpoint-{steps[-1] - 1}", [])


def test_a_loss_that_is_no_number_is_seen_where_no_checkpoint_is_due(
    config: Make, workspace: Path, bad_row: dict[str, Any]
) -> None:
    folder, sentence = failed_run(workspace, config(**bad_row | {"save_steps": 100}), FlightdeckError)
    assert folder.state().cause == "nan_loss"
    assert "no checkpoint was saved" in sentence
    assert folder.state().remedy is None, "the sentence says what to do; there is nothing to resume"
    assert points_of(folder)[-1]["loss"] is None
    assert checkpoints_of(folder) == []
