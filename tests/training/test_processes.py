"""Real processes: a stop saves a checkpoint, the supervisor says how a trainer ended."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from lora_backend.cli import main
from lora_backend.config.config_writing import dump_yaml
from lora_backend.demo.demo_run import train_demo
from lora_backend.errors import RunError
from lora_backend.installation import this_installation
from lora_backend.runs.processes.supervisor import start_supervisor
from lora_backend.runs.record.process_identity import identify
from lora_backend.runs.record.run_store import RunStore
from lora_backend.runs.record.transitions import request_stop
from lora_backend.trainer.direct_run import train_in_folder
from lora_backend.trainer.session import training_session
from tests.run_files import process_of, set_status, status_of
from tests.training.helpers import CLI, call, made, until

Make = Callable[..., dict[str, Any]]


def supervised(config: Make, workspace: Path, name: str) -> RunStore:
    path = workspace / "runs" / name
    argv = [*CLI, "train", str(path / "config.yaml"), "--run-dir", str(path)]
    folder = made(workspace, config(num_epochs=100_000), name, argv)
    start_supervisor(folder)
    return folder


def test_a_stop_request_saves_a_checkpoint_before_the_trainer_ends(
    config: Make, workspace: Path, tmp_path: Path
) -> None:
    (tmp_path / "config.yaml").write_text(dump_yaml(config(num_epochs=100_000)))
    folder = RunStore(tmp_path / "mine")
    trainer = call("train", str(tmp_path / "config.yaml"), "--run-dir", str(folder.path), "--json")
    try:
        until(lambda: folder.state().step > 3 or trainer.poll() is not None)
        assert folder.state().state == "running"
        request_stop(folder, "someone")
        out, err = trainer.communicate(timeout=60)
    finally:
        trainer.kill()
        trainer.wait()
    assert json.loads(out)["state"] == "stopped", err
    state = folder.state()
    assert (trainer.returncode, state.state) == (0, "stopped")
    (checkpoint,) = folder.checkpoints.iterdir()
    assert checkpoint.name == f"checkpoint-{state.step}"
    assert load_file(checkpoint / "adapter" / "adapter_model.safetensors")
    assert json.loads((checkpoint / "state.json").read_text())["state"]["progress"]["step"] == state.step
    assert not folder.adapter.exists()
    assert json.loads(folder.stop_request.read_text())["actor"] == "someone"


def test_a_trainer_that_is_killed_is_said_to_be(config: Make, workspace: Path) -> None:
    folder = supervised(config, workspace, "killed")
    until(lambda: folder.state().step > 0 or folder.state().has_ended)
    os.kill(status_of(folder)["trainer"]["pid"], signal.SIGKILL)
    until(lambda: folder.state().has_ended)
    state = folder.state()
    assert (state.state, state.cause) == ("failed", "killed")
    assert state.message is not None
    assert "SIGKILL" in state.message.text("en")
    lines = folder.train_log.read_text().splitlines()
    assert sum("stage loading" in line and "took" not in line for line in lines) == 1, "each line stands there once"


@pytest.mark.parametrize("role", ["trainer", "child"])
def test_a_run_that_another_process_trains_is_left_to_it(
    role: str, config: Make, workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also where that one has come since the run was looked at: a trainer is seconds in loading torch."""
    folder = made(workspace, config())
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        found = identify(other.pid)
        assert found
        set_status(folder, state="running", **{role: found.to_json()})
        for train in (lambda: train_in_folder(folder), lambda: train_demo(this_installation(), folder.path)):
            with pytest.raises(RunError, match=f"Process {other.pid} is training"):
                train()
        assert main(["train", "no.yaml", "--run-dir", str(folder.path)]) != 0
        assert f"Process {other.pid}" in capsys.readouterr().err
        assert process_of(folder, role) == found
        assert not folder.exit_json.exists()
    finally:
        other.communicate(b"\n")


def test_what_a_launcher_starts_for_its_supervisor_trains(config: Make, workspace: Path) -> None:
    folder, launcher = made(workspace, config()), identify(os.getppid())
    assert launcher
    set_status(folder, child=launcher.to_json())
    with training_session(folder, this_installation()):
        assert status_of(folder)["trainer"]["pid"] == os.getpid()
    assert folder.state().state == "finished"
