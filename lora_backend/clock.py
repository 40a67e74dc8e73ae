"""What time it is, by a clock that is handed down: a test hands down another."""

from __future__ import annotations

import time
from collections.abc import Callable

Clock = Callable[[], float]
"""Seconds since the epoch."""


def machine_clock() -> float:
    """The machine's own; whoever sets it may let it jump."""
    return time.time()


def stamp(seconds: float) -> str:
    """A moment as it stands in names of folders, which then sort by it: `20260131-235959`."""
    return time.strftime("%Y%m%d-%H%M%S", time.localtime(seconds))
