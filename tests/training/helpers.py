"""Make a run in this process and look at how it ended."""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lora_backend.cli import main
from lora_backend.config.config_writing import dump_yaml
from lora_backend.errors import FlightdeckError
from lora_backend.installation import child_environment
from lora_backend.runs.checkpoints.manifest import newest_whole
from lora_backend.runs.record.run_store import RunStore
from lora_backend.runs.record.transitions import request_stop
from lora_backend.trainer.direct_run import train_in_folder
from tests.run_files import add_start, make_run, points_of, start_again

CLI = [sys.executable, "-m", "lora_backend"]


def call(*command: str) -> subprocess.Popen[str]:
    """The command line in a process of its own."""
    pipe = subprocess.PIPE
    return subprocess.Popen([*CLI, *command], env=child_environment(), stdout=pipe, stderr=pipe, text=True)


def made(workspace: Path, values: dict[str, Any], name: str | None = None, argv: list[str] | None = None) -> RunStore:
    """The folder of a run that nobody has started."""
    path = workspace / "runs" / name if name else None
    text = dump_yaml(values)
    return make_run(workspace / "runs", config=values, config_text=text, argv=argv, path=path)


def run(workspace: Path, values: dict[str, Any]) -> RunStore:
    """Train in this process."""
    folder = made(workspace, values)
    train_in_folder(folder)
    return folder


def failed_run(
    workspace: Path, values: dict[str, Any], error: type[Exception] = FlightdeckError
) -> tuple[RunStore, str]:
    """A run that must fail with `error`: the sentence of its state, and the traceback in its log alone."""
    folder = made(workspace, values)
    with pytest.raises(error):
        train_in_folder(folder)
    state = folder.state()
    assert state.state == "failed"
    assert state.message is not None
    sentence = state.message.text("en")
    assert "\n" not in sentence
    assert "Traceback" not in sentence
    assert "Traceback" in folder.train_log.read_text()
    return folder, sentence


def until(condition: Callable[[], Any], limit_s: float = 90.0) -> Any:
    """What `condition` gives once it is true; fails when it is not within `limit_s`."""
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.02)
    raise AssertionError(f"not within {limit_s} s: {condition}")


COMPARED = ("step", "epoch", "loss", "eval_loss", "learning_rate", "grad_norm")


def curve(folder: RunStore) -> list[dict[str, Any]]:
    """All that training computes of every point; times and memory differ between two runs that are the same."""
    return [{key: row[key] for key in COMPARED if key in row} for row in points_of(folder)]


def adapter_bytes(folder: RunStore) -> bytes:
    return (folder.adapter / "adapter_model.safetensors").read_bytes()


@contextlib.contextmanager
def at_line(start: str, action: Callable[[], Any]) -> Iterator[None]:
    """Do `action` when the backend logs a line that begins with `start`."""

    class AtLine(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.getMessage().startswith(start):
                action()

    handler, backend = AtLine(), logging.getLogger("lora_backend")
    backend.addHandler(handler)
    try:
        yield
    finally:
        backend.removeHandler(handler)


def made_ready(folder: RunStore, changes: dict[str, Any] | None = None) -> None:
    """Another start of a run that has ended, or was killed: from its newest whole checkpoint."""
    newest, _ = newest_whole(folder)
    start: dict[str, Any] = {"resume_from": newest.name if newest else None, "changes": changes or {}}
    if folder.exit_json.exists():
        start_again(folder, "starting", **start)
    else:
        add_start(folder, **start)


def resumed(folder: RunStore, changes: dict[str, Any] | None = None) -> RunStore:
    """Train on in this process."""
    made_ready(folder, changes)
    train_in_folder(folder)
    return folder


def stopped_at(workspace: Path, values: dict[str, Any], step: int) -> RunStore:
    """A run that was asked to stop while step `step` was logged."""
    folder = made(workspace, values)
    with at_line(f"step {step} of", lambda: request_stop(folder)):
        train_in_folder(folder)
    assert folder.state().state == "stopped"
    return folder


def trainer_main(path: str, environment: dict[str, str]) -> None:
    """A whole process: the command line that trains the run in `path`, in a session of its own, its words in the log."""
    os.setsid()
    os.environ.update(environment)
    folder = RunStore(Path(path))
    log = os.open(folder.train_log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    os.dup2(log, 1)
    os.dup2(log, 2)
    sys.exit(main(["train", str(folder.config_yaml), "--run-dir", path]))
