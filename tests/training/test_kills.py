"""SIGKILL at random moments, saving included: the resumed run ends with the same adapter and the same curve."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import pytest

from lora_backend.installation import SUPERVISED, child_environment
from lora_backend.runs.processes.supervisor import SHARED_CORES
from lora_backend.runs.processes.trainer_command import trainer_command
from lora_backend.runs.record.run_store import RunStore
from tests.run_files import log_tail, points_of, status_of
from tests.training.helpers import adapter_bytes, curve, made, made_ready, run, trainer_main, until

Make = Callable[..., dict[str, Any]]
VALUES: dict[str, Any] = {
    "lora_dropout": 0.1, "batch_size": 2, "target_batch_size": 4, "logging_steps": 3, "save_steps": 2, "val_size": 0.25,
    "eval_strategy": "steps", "eval_steps": 5, "lr_scheduler_type": "cosine", "warmup_ratio": 0.1,
}  # fmt: skip
ENVIRONMENT = {SUPERVISED: "1", "PYTHONUNBUFFERED": "1", **SHARED_CORES}


class Started(Protocol):
    """A trainer's process."""

    pid: int

    def has_ended(self) -> bool: ...

    def code(self) -> int:
        """Wait for its end; minus the signal where one ended it."""


class AsSupervised:
    """The trainer as its supervisor starts it: a new Python, which takes its seconds."""

    def __init__(self, folder: RunStore) -> None:
        with folder.train_log.open("ab") as log:
            self._process = subprocess.Popen(
                trainer_command(folder.path),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env=child_environment(**ENVIRONMENT),
            )
        self.pid = self._process.pid

    def has_ended(self) -> bool:
        return self._process.poll() is not None

    def code(self) -> int:
        return self._process.wait(timeout=240)


class Forked:
    """The same command in a process forked from one that has torch imported already."""

    def __init__(self, folder: RunStore) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["tests.training.helpers"])
        self._process = context.Process(target=trainer_main, args=(str(folder.path), ENVIRONMENT))
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    def has_ended(self) -> bool:
        return self._process.exitcode is not None

    def code(self) -> int:
        self._process.join(240)
        assert self._process.exitcode is not None, "it goes on"
        return self._process.exitcode


def is_saving(folder: RunStore, files: int) -> bool:
    """Whether a checkpoint is being written and has got as far as this many files."""
    try:
        return any(len(list(aside.rglob("*.*"))) > files for aside in folder.checkpoints.glob(".checkpoint-*.new"))
    except FileNotFoundError:  # renamed while it was looked at
        return False


def is_due(folder: RunStore, process: Started, step: int, files: int | None) -> bool:
    """Whether to kill: `step` is reached, and with `files` a checkpoint is being written too. Or it ended by itself."""
    if process.has_ended():
        return True
    reached = status_of(folder).get("stage") == "training" and _last_step(folder) >= step
    return reached and (files is None or is_saving(folder, files))


def killed_and_resumed(
    folder: RunStore, kills: int, total_steps: int, draw: random.Random, trainer: Callable[[RunStore], Started]
) -> list[str]:
    """Kill the trainer `kills` times, each time a random number of steps after where it was; returns where it was hit."""
    hit: list[str] = []
    for number in range(kills):
        if number:
            made_ready(folder)
        process = trainer(folder)
        ahead = _last_step(folder) + draw.randint(1, max(2, total_steps // kills - 3))
        files = draw.choice([None, draw.randint(0, 4)])
        until(partial(is_due, folder, process, ahead, files))
        hit.append(f"{'saving' if is_saving(folder, 0) else 'training'} at step {_last_step(folder)}")
        if not process.has_ended():
            os.kill(process.pid, signal.SIGKILL)
        assert process.code() == -signal.SIGKILL, log_tail(folder, 3000)
    return hit


def _last_step(folder: RunStore) -> int:
    return max((row["step"] for row in points_of(folder)), default=0)


def proved(
    config: Make, workspace: Path, kills: int, epochs: int, seed: int, trainer: Callable[[RunStore], Started]
) -> list[str]:
    values = config(**VALUES, num_epochs=epochs)
    whole = run(workspace, values)
    folder = made(workspace, values, "killed")
    hit = killed_and_resumed(folder, kills, total_steps=3 * epochs, draw=random.Random(seed), trainer=trainer)
    made_ready(folder)
    last = trainer(folder)
    try:
        assert last.code() == 0, log_tail(folder, 3000)
    finally:
        if not last.has_ended():
            os.kill(last.pid, signal.SIGKILL)
    assert status_of(folder)["outcome"] == "finished"
    assert curve(folder) == curve(whole)
    assert adapter_bytes(folder) == adapter_bytes(whole)
    assert not list(folder.checkpoints.glob(".checkpoint-*")), "nothing half written is left"
    return hit


@pytest.mark.timeout(600)
def test_five_kills_leave_adapter_and_curve_as_in_an_undisturbed_run(
    config: Make, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in SHARED_CORES.items():  # read when torch is imported, which is before the fork
        monkeypatch.setenv(name, value)
    hit = proved(config, workspace, kills=5, epochs=20, seed=7, trainer=Forked)
    assert any(place.startswith("saving") for place in hit), hit
    assert any(place.startswith("training") for place in hit), hit


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_thirty_kills_leave_adapter_and_curve_as_in_an_undisturbed_run(
    config: Make, workspace: Path, record_property: Callable[[str, object], None]
) -> None:
    hit = proved(config, workspace, kills=30, epochs=100, seed=11, trainer=AsSupervised)
    saving = sum(place.startswith("saving") for place in hit)
    record_property(
        "figures", f"trainer killed 30 times, {saving} of them while saving: adapter and curve bit-identical"
    )
