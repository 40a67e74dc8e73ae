"""Open every file of a checkpoint as a resume would, before one is resumed from: what is damaged, or would have to run
code of its own, is known by name, and the checkpoint before takes its place.

A manifest proves that the files are those which it was written for, not who wrote it.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import torch
from safetensors import safe_open
from transformers import TrainerState
from transformers.trainer_pt_utils import safe_globals

from lora_backend.runs.checkpoints.manifest import UNUSABLE, step_of
from lora_backend.training.checkpoints import PROGRESS, Progress

logger = logging.getLogger(__name__)
FOREIGN = (
    "pytorch_model.bin", "pytorch_model.bin.index.json", "model.safetensors", "model.safetensors.index.json",
    "pytorch_model_fsdp.bin", "optimizer.bin",
)  # fmt: skip
"""Files that transformers would load in the place of ours."""


def unusable_files(checkpoint: Path) -> list[str]:
    """What cannot be used of a whole checkpoint, a few words for each file. No code in any of them is run."""
    problems = [f"{name}: {UNUSABLE}" for name, check in _CHECKS.items() if not _is_usable(checkpoint, name, check)]
    return problems + [f"{name}: is no file of a checkpoint" for name in FOREIGN if (checkpoint / name).exists()]


def _is_usable(checkpoint: Path, name: str, check: Callable[[Path], object]) -> bool:
    path = checkpoint / name
    if name in OPTIONAL and not path.exists():
        return True
    try:
        check(path)
    except Exception as error:  # whatever such a file makes its reader raise, it is no file of ours
        logger.info("%s of %s: %s", name, checkpoint.name, type(error).__name__)  # torch's words advise to run the code
        return False
    return True


def _tensors(path: Path) -> Any:
    """Pickled tensors and plain values; mapped, so that gigabytes of an optimizer's state are not read for this."""
    with safe_globals():
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)


def _optimizer(path: Path) -> None:
    state = _tensors(path)
    _assert(isinstance(state["state"], dict) and all(isinstance(group["params"], list) for group in state["param_groups"]))  # fmt: skip


def _scheduler(path: Path) -> None:
    _assert(isinstance(_tensors(path)["last_epoch"], int))


def _random_state(path: Path) -> None:
    state = _tensors(path)
    random.Random().setstate(state["python"])  # noqa: S311 - tried out, not drawn from
    numpy.random.RandomState().set_state(state["numpy"])
    torch.Generator().set_state(state["cpu"])


def _adapter(path: Path) -> None:
    with safe_open(path, framework="pt") as file:
        _assert(bool(file.keys()))


def _trainer_state(path: Path) -> None:
    state = TrainerState.load_from_json(str(path))
    _assert(state.global_step == step_of(path.parent))
    _assert(all(isinstance(row["step"], int) for row in state.log_history))


def _progress(path: Path) -> None:
    found = Progress.read(path.parent)
    numbers = (found.loss_sum, found.total_loss, found.last_logged_step)
    _assert(all(isinstance(number, int | float) for number in numbers))
    _assert(isinstance(found.num_threads, int) and 0 < found.num_threads < 10_000 and isinstance(found.config, dict))


def _assert(is_so: bool) -> None:
    if not is_so:
        raise ValueError("it does not hold what it should")


_CHECKS: dict[str, Callable[[Path], object]] = {
    "adapter_model.safetensors": _adapter,
    "optimizer.pt": _optimizer,
    "scheduler.pt": _scheduler,
    "scaler.pt": _tensors,
    "rng_state.pth": _random_state,
    "trainer_state.json": _trainer_state,
    PROGRESS: _progress,
}
OPTIONAL = ("scaler.pt",)
"""Only a run in fp16 has it."""
