"""Ctrl-C, SIGTERM and SIGHUP to a training: a checkpoint is saved, and the run is stopped, not lost."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch.utils.data import DataLoader

from lora_backend.config.config_writing import dump_yaml
from lora_backend.installation import child_environment, this_installation
from lora_backend.runs.checkpoints.manifest import newest_whole
from lora_backend.runs.processes.signals import StopSignals
from lora_backend.runs.record.run_store import RunStore, list_runs
from lora_backend.trainer.direct_run import buildandTrainLoraModel, train_in_folder
from tests.run_files import status_of
from tests.tiny import write_rows
from tests.training.helpers import CLI, at_line, call, made, until

Make = Callable[..., dict[str, Any]]


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_in_the_foreground_saves_a_checkpoint_and_stops(
    name: str, config: Make, workspace: Path, tmp_path: Path
) -> None:
    (tmp_path / "config.yaml").write_text(dump_yaml(config(num_epochs=100_000)))
    trainer = call("train", str(tmp_path / "config.yaml"), "--json", "--lang", "en")
    try:
        (folder,) = until(lambda: list_runs(workspace / "runs") or (trainer.poll() is not None and [None]))
        until(lambda: folder.state().step > 3 or trainer.poll() is not None)
        trainer.send_signal(signal.Signals[name])
        out, err = trainer.communicate(timeout=120)
    finally:
        trainer.kill()
        trainer.wait()
    state = folder.state()
    assert (trainer.returncode, json.loads(out)["state"]) == (128 + signal.Signals[name], "stopped"), err
    assert "Stopping: saving a checkpoint after this step" in err
    assert f"runs resume {folder.id}" in err
    assert "Traceback" not in err
    newest, damaged = newest_whole(folder)
    assert newest is not None
    assert (newest.name, damaged) == (f"checkpoint-{state.step}", [])
    assert (state.state, state.cause) == ("stopped", "signal")
    assert state.message is not None
    assert name in state.message.text("en")


def test_a_terminal_that_is_closed_saves_a_checkpoint_and_stops(config: Make, workspace: Path, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(dump_yaml(config(num_epochs=100_000)))
    folder, (master, slave) = RunStore(tmp_path / "mine"), pty.openpty()
    command = [*CLI, "train", str(tmp_path / "config.yaml"), "--run-dir", str(folder.path)]
    trainer = subprocess.Popen(
        command, env=child_environment(), stdin=slave, stdout=slave, stderr=slave, start_new_session=True
    )
    os.close(slave)
    try:
        until(lambda: os.read(master, 65536) and (folder.state().step > 3 or trainer.poll() is not None))
        os.close(master)  # nobody reads it any more, and each write is an error
        trainer.send_signal(signal.SIGHUP)
        assert trainer.wait(timeout=120) == 128 + signal.SIGHUP
    finally:
        trainer.kill()
        trainer.wait()
    state = folder.state()
    assert (state.state, state.cause) == ("stopped", "signal")
    assert newest_whole(folder)[0]


def test_a_signal_before_the_first_step_stops_without_a_checkpoint(
    config: Make, workspace: Path, tmp_path: Path
) -> None:
    (tmp_path / "config.yaml").write_text(dump_yaml(config()))
    trainer = call("train", str(tmp_path / "config.yaml"), "--lang", "en")
    try:
        (folder,) = until(lambda: list_runs(workspace / "runs") or (trainer.poll() is not None and [None]))
        until(lambda: status_of(folder).get("trainer") or trainer.poll() is not None)
        trainer.send_signal(signal.SIGINT)
        _, err = trainer.communicate(timeout=120)
    finally:
        trainer.kill()
        trainer.wait()
    assert trainer.returncode == 130, err
    assert folder.state().state == "stopped"
    assert "Traceback" not in err


@pytest.mark.parametrize("line", ["stage saving", "stage answering"])
def test_a_signal_after_the_last_step_keeps_the_adapter(
    line: str, config: Make, workspace: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    questions = write_rows(tmp_path / "q.jsonl", [{"messages": [{"role": "user", "content": "how tall"}]}] * 20)
    folder = made(workspace, config(max_steps=2, questions=str(questions)))
    asked = iter([interrupt])  # the stage has a line at its end too
    with StopSignals(folder, this_installation()) as signals, at_line(line, lambda: next(asked, lambda: None)()):
        train_in_folder(folder)
    assert signals.received == signal.SIGINT
    state = folder.state()
    assert state.state == "finished"
    assert state.message is not None
    assert "The run was stopped after the adapter was saved" in state.message.text("en")
    assert (folder.adapter / "flightdeck.json").is_file()
    assert "Stopping: the adapter is saved" in capfd.readouterr().err


def test_ctrl_c_in_a_callers_own_process_saves_first_and_interrupts_the_caller_then(
    config: Make, workspace: Path
) -> None:
    import torch

    row = {"input_ids": torch.tensor([5, 6, 7]), "attention_mask": torch.ones(3, dtype=torch.long), "labels": torch.tensor([5, 6, 7])}  # fmt: skip
    before = signal.getsignal(signal.SIGINT)
    values = config(dataset=..., pkg="p", version="1", max_steps=50)
    with pytest.raises(KeyboardInterrupt), at_line("step 3 of", interrupt):
        buildandTrainLoraModel(values, DataLoader([row] * 200, batch_size=2))
    (folder,) = list_runs(workspace / "runs")
    assert (folder.state().state, folder.state().cause) == ("stopped", "signal")
    assert newest_whole(folder)[0]
    assert signal.getsignal(signal.SIGINT) is before
