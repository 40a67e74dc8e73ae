"""Whether weights have room here, by what the machine has."""

from __future__ import annotations

import pytest

from lora_backend.installation import this_installation
from lora_backend.preflight.weights_room import MemoryHere, memory_here, room_for, room_words


@pytest.mark.parametrize(
    ("gpus", "host", "weights", "room"),
    [
        ((), 10, 10, "memory"), ((), 10, 11, "none"), ((8, 24), 10, 24, "one_gpu"), ((8, 24), 10, 25, "several_gpus"),
        ((8, 24), 100, 33, "none"),
    ],
)  # fmt: skip
def test_weights_fit_on_one_gpu_on_several_in_memory_or_nowhere(
    gpus: tuple[int, ...], host: int, weights: int, room: str
) -> None:
    assert room_for(weights, MemoryHere(gpus, host)) == room


def test_every_answer_has_its_words_in_both_languages() -> None:
    for room in ("one_gpu", "several_gpus", "memory", "none"):
        words = room_words(room)  # type: ignore[arg-type]
        assert words.text("en") != words.text("zh")


@pytest.mark.usefixtures("workspace")
def test_this_machine_has_memory() -> None:
    assert memory_here(this_installation()).host > 2**28
