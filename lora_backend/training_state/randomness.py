"""The state of every random generator that training draws from, and algorithms that always round alike."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch


@dataclass(frozen=True)
class RandomState:
    """Where Python's, numpy's and torch's generators stand, those of all GPUs with them."""

    python: Any
    numpy: Any
    torch: torch.Tensor
    cuda: list[torch.Tensor]

    @classmethod
    def now(cls) -> RandomState:
        cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
        return cls(random.getstate(), np.random.get_state(), torch.get_rng_state(), cuda)

    def restore(self) -> None:
        random.setstate(self.python)
        np.random.set_state(self.numpy)
        torch.set_rng_state(self.torch)
        if self.cuda and torch.cuda.is_available():
            torch.cuda.set_rng_state_all(self.cuda)

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values."""
        kind, keys, *numpy = self.numpy
        return {"python": self.python, "numpy": (kind, keys.tolist(), *numpy), "torch": self.torch, "cuda": self.cuda}

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Any]) -> RandomState:
        """Raises `KeyError`, `TypeError` or `ValueError` for what is no such state; no generator is touched."""
        kind, keys, *numpy = state["numpy"]
        found = cls(
            state["python"], (kind, np.array(keys, dtype=np.uint32), *numpy), state["torch"], list(state["cuda"])
        )
        random.Random().setstate(found.python)  # noqa: S311 - tried out, not drawn from
        np.random.RandomState().set_state(found.numpy)
        torch.Generator().set_state(found.torch)
        return found


def seed_of(seed: int, rank: int) -> int:
    """By which a process's generators begin, in 32 bits: the first's is the run's own, each other's one of its own that
    follows from both, so that no two draw the same dropout."""
    return seed if rank == 0 else int(np.random.SeedSequence([seed, rank]).generate_state(1)[0])


@contextmanager
def nothing_drawn() -> Iterator[None]:
    """Let the block draw random numbers as it likes: afterwards the generators stand where they stood."""
    before = RandomState.now()
    try:
        yield
    finally:
        before.restore()


@contextmanager
def deterministic_algorithms(asked: bool) -> Iterator[None]:
    """Where asked, let torch use only algorithms that give the same bits each time; it raises where one has no such."""
    if not asked:
        yield
        return
    # cuBLAS and flash attention read these when they are first used.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    os.environ.setdefault("FLASH_ATTENTION_DETERMINISTIC", "1")
    before = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0])
        torch.backends.cudnn.benchmark = before[1]
