"""Machines that are not there."""

from __future__ import annotations

import pytest

from lora_backend.hardware.inventory import Gpu
from lora_backend.planning.targets import of_words
from lora_backend.preflight import facts, placement

Patch = pytest.MonkeyPatch


def on(patch: Patch, words: str) -> None:
    """This machine's GPUs from now on."""
    targets = of_words(words) if words else ()
    gpus = tuple(Gpu(index, f"GPU-{index}", "GPU", 2**34, 0, (8, 0)) for index, _ in enumerate(targets))
    patch.setattr(facts, "visible_gpus", lambda *_: (gpus, None))
    if targets:
        patch.setattr(placement, "machine_targets", lambda *_: (targets, None, None))
