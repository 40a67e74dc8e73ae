"""How long a run still takes, and how sure that is, from the times of its points."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from lora_backend.runs.record.curves import Column

LOOKED_BACK = 50
"""Intervals between points: long enough to know their spread, short enough to follow a machine that got slower."""
FEWEST = 4
"""Intervals from which on a spread means something."""


class TimeLeft(NamedTuple):
    """Seconds: what is expected, and between which bounds it lies with about 95 % (two standard deviations)."""

    expected_s: float
    low_s: float
    high_s: float


def time_left(columns: dict[str, Column], total_steps: int | None, since: float | None = None) -> TimeLeft | None:
    """The time until `total_steps`, from the points after `since` (seconds since the epoch: this start of the run).

    The n steps that are left are m = n / (steps per interval) further intervals like the k seen ones, whose mean is x
    and whose standard deviation is s: m·x ± 2·s·√(m·(1 + m/k)), the prediction interval of a sum of further draws
    (the spread of the intervals to come, and that of the mean that was seen). None before there are `FEWEST` of them.
    """
    if not columns or not total_steps:
        return None
    there = np.isfinite(columns["step"]) & np.isfinite(columns["time"]) & (columns["time"] >= (since or -math.inf))
    steps, index = np.unique(columns["step"][there], return_index=True)  # evaluation has a point of its own
    spent, walked = np.diff(columns["time"][there][index])[-LOOKED_BACK:], np.diff(steps)[-LOOKED_BACK:]
    forward = spent > 0  # a clock that was set back says nothing
    spent, walked = spent[forward], walked[forward]
    left = total_steps - (float(steps[-1]) if len(steps) else 0)
    if len(spent) < FEWEST or left <= 0:
        return None
    intervals = left / walked.mean()
    mean, deviation = float(spent.mean()), float(spent.std(ddof=1))
    half = 2 * deviation * math.sqrt(intervals * (1 + intervals / len(spent)))
    expected = float(intervals * mean)
    return TimeLeft(expected, max(expected - half, 0.0), expected + half)
