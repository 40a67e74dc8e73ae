"""A process of its own for expressions that may take any time: it is ended at the deadline, and nobody waits for another's."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from lora_backend.expressions import matching
from lora_backend.expressions.matching import Answer

MOST_AT_ONCE = 16
"""Processes under way. Each takes a share of the processor for its seconds, and at most `MEMORY_BYTES`."""
_slots = threading.BoundedSemaphore(MOST_AT_ONCE)


class Ask(NamedTuple):
    """Expressions of one form, and the names that each of them is held against."""

    form: str
    patterns: tuple[str, ...]
    names: tuple[str, ...]


@dataclass(frozen=True)
class Outcome:
    """What was answered, in the order of the asks and their patterns, and with what the time went."""

    answers: list[Answer]
    slowest: int
    """Index of the expression that took the longest, answered or not."""
    slowest_s: float
    has_started: bool
    """False where it did not come to the first expression; then nothing is known of any."""


def answer_apart(asks: Sequence[Ask], limit_s: float) -> Outcome:
    """Answer in a new process within `limit_s`; fewer answers than asked for mean that it was ended before."""
    began = time.monotonic()
    if limit_s <= 0 or not _slots.acquire(timeout=limit_s):
        return Outcome([], 0, 0.0, has_started=False)
    try:
        request = json.dumps(
            {
                "names": [ask.names for ask in asks],
                "asks": [(ask.form, pattern, index) for index, ask in enumerate(asks) for pattern in ask.patterns],
                "cpu_s": math.ceil(limit_s) + 1,
            }
        )
        return _read(_said(request, limit_s - (time.monotonic() - began)), time.monotonic())
    finally:
        _slots.release()


def _said(request: str, limit_s: float) -> str:
    """What the process wrote until it ended, or was; nothing where it cannot be started."""
    pipe = subprocess.PIPE
    try:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(Path(matching.__file__))],
            stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
    except OSError:
        return ""
    try:
        return process.communicate(request, max(limit_s, 0))[0]
    except subprocess.TimeoutExpired:
        process.kill()
        return process.communicate()[0]


def _read(said: str, ended: float) -> Outcome:
    """`said`: the clock at the start, and a line for each answer; the last line may be cut."""
    lines = said.split("\n")[:-1]
    if not lines:
        return Outcome([], 0, 0.0, has_started=False)
    answers: list[Answer] = []
    clocks = [float(lines[0])]
    for line in lines[1:]:
        *answer, clock = json.loads(line)
        answers.append((answer[0], answer[1], answer[2]))
        clocks.append(clock)
    times = [after - before for before, after in pairwise([*clocks, ended])]
    return Outcome(answers, slowest := times.index(max(times)), times[slowest], has_started=True)
