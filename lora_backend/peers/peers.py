"""What each of the processes that train one model together asks the others: torch's process group, in the few words that training needs.

Whatever steers a training (a stop, a save, a loss that is no number) is settled here, so that no process waits in a
collective for one that has gone another way: every method is called by all of them, in the same order.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from accelerate.utils import check_cuda_p2p_ib_support

from lora_backend.installation import PeerPlace

T = TypeVar("T")
PATIENCE = timedelta(days=7)
"""One process may load, answer questions or publish for hours while the others wait; one that dies is noticed by its
launcher, not by this."""
STEP_PATIENCE = timedelta(minutes=30)
"""Between GPUs, which only ever wait for a micro-batch of one another."""


class Peers(ABC):
    """This process among those that train together."""

    rank: int
    """Of this process, from 0."""
    size: int
    """How many there are."""

    @property
    def is_first(self) -> bool:
        """Whether this process writes the run's files."""
        return self.rank == 0

    @abstractmethod
    def agreed(self, value: T) -> T:
        """What the first process has for it, at every process. The others' own value does not count."""

    @abstractmethod
    def gathered(self, value: T) -> list[T]:
        """Of all processes by their rank, at every process."""

    @abstractmethod
    def summed(self, tensor: torch.Tensor) -> torch.Tensor:
        """The sum over all processes, at every process, on the device of this one; `tensor` has the same shape and dtype
        everywhere and is changed in place."""

    def wait_for_all(self) -> None:
        """Until every process has come here."""
        self.gathered(None)

    def any_has(self, flag: bool) -> bool:
        """Whether it holds for any process."""
        return any(self.gathered(flag))

    def total(self, number: T) -> T:
        """The sum of a number over all processes, added in the order of their ranks."""
        total: Any = 0
        for one in self.gathered(number):
            total += one
        return total  # type: ignore[no-any-return]


class Alone(Peers):
    """One process: all of it is its own."""

    rank, size = 0, 1

    def agreed(self, value: T) -> T:
        return value

    def gathered(self, value: T) -> list[T]:
        return [value]

    def summed(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor


class Together(Peers):
    """Several processes: one group for tensors (NCCL on GPUs, gloo on CPUs), and one on the CPU for what steers them."""

    def __init__(self, rank: int, size: int) -> None:
        """In a process whose default group exists."""
        self.rank, self.size = rank, size
        is_gloo = dist.get_backend() == "gloo"
        self._steering = dist.group.WORLD if is_gloo else dist.new_group(backend="gloo", timeout=PATIENCE)

    def agreed(self, value: T) -> T:
        box = [value]
        dist.broadcast_object_list(box, src=0, group=self._steering)
        return box[0]

    def gathered(self, value: T) -> list[T]:
        boxes: list[Any] = [None] * self.size
        dist.all_gather_object(boxes, value, group=self._steering)
        return boxes

    def summed(self, tensor: torch.Tensor) -> torch.Tensor:
        dist.all_reduce(tensor)
        return tensor


@contextmanager
def joined(place: PeerPlace | None) -> Iterator[Peers]:
    """Meet the others, by the address that torchrun has put into the environment; alone where there are none.

    On a machine with GPUs this process takes the GPU of its number there. Raises torch's `DistNetworkError` where the
    others cannot be reached.
    """
    if place is None:
        yield Alone()
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(place.local_rank)
    if torch.cuda.is_available():
        if not check_cuda_p2p_ib_support():  # RTX 40 under an older driver: accelerate refuses to go on without
            for way in ("NCCL_P2P_DISABLE", "NCCL_IB_DISABLE"):
                os.environ.setdefault(way, "1")
        dist.init_process_group("nccl", timeout=STEP_PATIENCE)
    else:
        dist.init_process_group("gloo", timeout=PATIENCE)
    try:
        yield Together(place.rank, place.size)
    finally:
        dist.destroy_process_group()
