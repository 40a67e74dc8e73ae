"""SIGKILL at random moments, saving included: the resumed run ends with the same adapter and the same curve."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from lora_backend.runs.folder import RunFolder
from lora_backend.runs.supervisor import SHARED_CORES, SUPERVISED
from lora_backend.settings import child_environment
from tests.training.helpers import adapter_bytes, curve, made, made_ready, run, until

Make = Callable[..., dict[str, Any]]
VALUES: dict[str, Any] = {
    "lora_dropout": 0.1, "batch_size": 2, "target_batch_size": 4, "logging_steps": 3, "save_steps": 2, "val_size": 0.25,
    "eval_strategy": "steps", "eval_steps": 5, "lr_scheduler_type": "cosine", "warmup_ratio": 0.1,
}  # fmt: skip


def trainer(folder: RunFolder) -> subprocess.Popen[bytes]:
    """The trainer as its supervisor starts it."""
    with folder.train_log.open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "lora_backend", "train", str(folder.config_yaml), "--run-dir", str(folder.path)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            env=child_environment(**{SUPERVISED: "1", "PYTHONUNBUFFERED": "1"}, **SHARED_CORES),
        )


def is_saving(folder: RunFolder, files: int) -> bool:
    """Whether a checkpoint is being written and has got as far as this many files."""
    try:
        return any(len(list(aside.rglob("*.*"))) > files for aside in folder.checkpoints.glob(".checkpoint-*.new"))
    except FileNotFoundError:  # renamed while it was looked at
        return False


def is_due(folder: RunFolder, process: subprocess.Popen[bytes], step: int, files: int | None) -> bool:
    """Whether to kill: `step` is reached, and with `files` a checkpoint is being written too. Or it ended by itself."""
    if process.poll() is not None:
        return True
    reached = folder.status().get("stage") == "training" and _last_step(folder) >= step
    return reached and (files is None or is_saving(folder, files))


def killed_and_resumed(folder: RunFolder, kills: int, total_steps: int, draw: random.Random) -> list[str]:
    """Kill the trainer `kills` times, each time a random number of steps after where it was; returns where it was hit."""
    hit: list[str] = []
    for number in range(kills):
        if number:
            made_ready(folder)
        process = trainer(folder)
        ahead = _last_step(folder) + draw.randint(1, max(2, total_steps // kills - 3))
        files = draw.choice([None, draw.randint(0, 12)])
        until(partial(is_due, folder, process, ahead, files))
        hit.append(f"{'saving' if is_saving(folder, 0) else 'training'} at step {_last_step(folder)}")
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, folder.log_tail(3000)
    return hit


def _last_step(folder: RunFolder) -> int:
    return max((row["step"] for row in folder.metrics()), default=0)


def proved(config: Make, workspace: Path, kills: int, epochs: int, seed: int) -> list[str]:
    values = config(**VALUES, num_epochs=epochs)
    whole = run(workspace, values)
    folder = made(workspace, values, "killed")
    hit = killed_and_resumed(folder, kills, total_steps=3 * epochs, draw=random.Random(seed))
    made_ready(folder)
    last = trainer(folder)
    try:
        assert last.wait(timeout=240) == 0, folder.log_tail(3000)
    finally:
        last.kill()
    assert folder.status()["outcome"] == "finished"
    assert curve(folder) == curve(whole)
    assert adapter_bytes(folder) == adapter_bytes(whole)
    assert not list(folder.checkpoints.glob(".checkpoint-*")), "nothing half written is left"
    return hit


@pytest.mark.timeout(600)
def test_five_kills_leave_adapter_and_curve_as_in_an_undisturbed_run(config: Make, workspace: Path) -> None:
    hit = proved(config, workspace, kills=5, epochs=20, seed=7)
    assert any(place.startswith("saving") for place in hit), hit
    assert any(place.startswith("training") for place in hit), hit


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_thirty_kills_leave_adapter_and_curve_as_in_an_undisturbed_run(config: Make, workspace: Path) -> None:
    hit = proved(config, workspace, kills=30, epochs=100, seed=11)
    print(f"30 kills: {sum(place.startswith('saving') for place in hit)} while saving; {', '.join(hit)}")
