"""A run that ends before its last step, or saves on request: by `save.request`, by `max_time`, by a loss that is no number."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from lora_backend.errors import FlightdeckError
from lora_backend.runs.checkpoints import checkpoints_of, newest_whole, verified
from lora_backend.training.run import train_in_folder
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
    assert "goes on after step 1" in state.message.text("en")
    assert not folder.adapter.exists()
    resumed(folder, {"max_time": None})
    assert (folder.state().state, folder.state().cause) == ("finished", None)
    assert curve(folder) == curve(whole)
    assert adapter_bytes(folder) == adapter_bytes(whole)


def test_a_stop_has_no_cause(config: Make, workspace: Path) -> None:
    folder = made(workspace, config())
    with at_line("step 3 of", folder.request_stop):
        train_in_folder(folder)
    assert (folder.state().state, folder.state().cause, folder.state().message) == ("stopped", None, None)


DIVERGES: dict[str, Any] = {"alpha": 1e18, "max_grad_norm": 0.0, "warmup_ratio": 0.2, "save_steps": 1, "num_epochs": 2}
"""The first step's rate is 0; what the second step learns sends the third beyond any number."""


def test_a_loss_that_is_no_number_ends_the_run_and_keeps_the_last_good_checkpoint(
    config: Make, workspace: Path
) -> None:
    folder, sentence = failed_run(workspace, config(**DIVERGES), FlightdeckError)
    assert folder.state().cause == "nan_loss"
    assert "Checkpoint 2 is the last good one" in sentence
    assert "learning_rate" in sentence
    newest, damaged = newest_whole(folder)
    assert newest is not None
    assert (newest.name, damaged) == ("checkpoint-2", [])


def test_a_loss_that_is_no_number_is_seen_where_no_checkpoint_is_due(config: Make, workspace: Path) -> None:
    folder, sentence = failed_run(workspace, config(**DIVERGES | {"save_steps": 100}), FlightdeckError)
    assert folder.state().cause == "nan_loss"
    assert "no checkpoint was saved" in sentence
    assert folder.metrics()[-1]["loss"] is None
    assert checkpoints_of(folder) == []
