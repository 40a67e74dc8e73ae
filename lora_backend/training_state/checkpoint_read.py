"""Read a checkpoint that may have come from anywhere. No file of it can hold code that runs."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file

from lora_backend.bounded import read_json
from lora_backend.runs.checkpoints.manifest import ADAPTER_FILE, STATE, TENSORS, UNUSABLE, step_of
from lora_backend.training_state.state import progress_of, random_states, refuse_no_state
from lora_backend.training_state.tensor_tree import unpack

logger = logging.getLogger(__name__)
NEEDED = (ADAPTER_FILE, TENSORS, STATE)
"""Without any one of these a resume would go on differently."""


@dataclass(frozen=True)
class Saved:
    """What a checkpoint holds beside its adapter."""

    state: dict[str, Any]
    """Of `TrainState.state_dict`."""
    num_threads: int
    deterministic: bool
    config: dict[str, Any]

    @property
    def num_processes(self) -> int:
        """That trained together when it was written."""
        return len(random_states(self.state))

    @classmethod
    def read(cls, checkpoint: Path) -> Saved:
        """Raises whatever a file that is none of ours makes its reader raise."""
        written = read_json(checkpoint / STATE)
        state = unpack(written["state"], load_file(checkpoint / TENSORS))
        found = cls(state, written["num_threads"], written["deterministic"], written["config"])
        refuse_no_state(state)
        is_usable = isinstance(found.num_threads, int) and 0 < found.num_threads < 10_000
        if not (is_usable and isinstance(found.config, dict) and progress_of(state).step == step_of(checkpoint)):
            raise ValueError("it does not hold what it should")
        return found


def unusable_files(checkpoint: Path) -> list[str]:
    """What cannot be used of a whole checkpoint, a few words for each file."""
    bad = [name for name, check in _CHECKS.items() if not _is_usable(checkpoint, name, check)]
    if not bad and not _is_usable(checkpoint, STATE, lambda path: Saved.read(path.parent)):
        bad = [STATE]
    return [f"{name}: {UNUSABLE}" for name in bad]


def _is_usable(checkpoint: Path, name: str, check: Callable[[Path], object]) -> bool:
    try:
        check(checkpoint / name)
    except Exception as error:  # whatever such a file makes its reader raise, it is no file of ours
        logger.info("%s of %s: %s", name, checkpoint.name, type(error).__name__)
        return False
    return True


def _adapter(path: Path) -> None:
    with safe_open(path, framework="pt") as file:
        if not file.keys():
            raise ValueError("it holds no tensor")


def _tensors(path: Path) -> dict[str, torch.Tensor]:
    return load_file(path)


_CHECKS: dict[str, Callable[[Path], object]] = {ADAPTER_FILE: _adapter, TENSORS: _tensors, STATE: read_json}
