"""How fast this machine's cores multiply matrices: measured for a tenth of a second, in a process of its own."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import psutil

from lora_backend import outside
from lora_backend.errors import FlightdeckError

WIDTH = 768
"""Of the square matrices: a product of the size that a training step has."""
MEASURED_S = 0.1
KEPT_S = 600.0
"""For so long a measurement is believed: a laptop changes its clock with its charger and its heat."""
QUOTA = Path("/sys/fs/cgroup/cpu.max")

_lock = threading.Lock()
_kept: tuple[float, float | None] | None = None
"""When it was measured, and what."""


def flops_per_core() -> float | None:
    """Of one core in fp32 products, per second of its own time, so that other work on the machine counts little.

    None where it cannot be measured.
    """
    global _kept
    with _lock:
        if _kept is None or time.monotonic() - _kept[0] > KEPT_S:
            try:
                found: float | None = outside.call(f"{__name__}:measured", deadline_s=20.0)
            except (FlightdeckError, OSError):
                found = None
            _kept = time.monotonic(), found
        return _kept[1]


def measured() -> float:
    """What the process does, whose numpy has one thread: the best of the products of `MEASURED_S`."""
    import numpy as np

    left, right = np.random.default_rng(0).random((2, WIDTH, WIDTH), dtype=np.float32)
    best_s, ends = float("inf"), time.thread_time() + MEASURED_S
    left @ right  # the first one also wakes the core and its caches
    while best_s == float("inf") or time.thread_time() < ends:
        begun = time.thread_time()
        left @ right
        best_s = min(best_s, time.thread_time() - begun)
    return 2 * WIDTH**3 / best_s


def training_cores() -> int:
    """Cores that a training step has: real ones (two threads of one core share its multipliers), of those that this
    process may use, within the quota of its container."""
    logical, real = psutil.cpu_count(logical=True) or 1, psutil.cpu_count(logical=False) or 1
    allowed = len(os.sched_getaffinity(0))
    cores = max(1, round(allowed * min(real / logical, 1.0)))
    return max(1, min(cores, _quota() or cores))


def _quota() -> int | None:
    try:
        limit, period = QUOTA.read_text("ascii").split()
        return None if limit == "max" else max(1, int(limit) // int(period))
    except (OSError, ValueError, ZeroDivisionError):
        return None
