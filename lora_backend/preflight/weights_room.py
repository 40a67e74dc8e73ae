"""Whether this machine has room for a model's weights: a first answer for a list, where a plan would take too long."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lora_backend.hardware.inventory import read_gpus, read_host
from lora_backend.hardware.visible import visible_gpus
from lora_backend.i18n import N_, Message
from lora_backend.installation import Installation

BF16_BYTES = 2
"""Of a parameter whose weights nobody has counted yet."""
Room = Literal["one_gpu", "several_gpus", "memory", "none"]
_WORDS: dict[Room, str] = {
    "one_gpu": N_("they fit on one GPU"),
    "several_gpus": N_("they need several GPUs"),
    "memory": N_("they fit in this machine's memory"),
    "none": N_("they are larger than this machine's memory"),
}


@dataclass(frozen=True)
class MemoryHere:
    """What weights may be loaded into, in bytes, whoever uses it now."""

    gpus: tuple[int, ...]
    host: int


def memory_here(installation: Installation) -> MemoryHere:
    """Of the GPUs that this process may use, and of the machine."""
    gpus, _ = visible_gpus(read_gpus().gpus, installation.environment)
    return MemoryHere(tuple(gpu.total_bytes for gpu in gpus), read_host(installation.workspace).memory_total_bytes)


def room_for(weights_bytes: int, memory: MemoryHere) -> Room:
    """Where weights of that size fit; a training needs more than them, which the plan says."""
    if not memory.gpus:
        return "memory" if weights_bytes <= memory.host else "none"
    if weights_bytes <= max(memory.gpus):
        return "one_gpu"
    return "several_gpus" if weights_bytes <= sum(memory.gpus) else "none"


def room_words(room: Room) -> Message:
    """The same for the end of a sentence about weights."""
    return Message(_WORDS[room])
