"""How a run's curves are shown: over what, how smooth, between which ends; and all of their points as a file."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from lora_backend.escaping import csv_cell
from lora_backend.i18n import N_
from lora_backend.runs.record.curves import COLUMNS, SMOOTHED_SHARE, Column, points

Over = Literal["step", "tokens", "time"]
OVER: dict[Over, str] = {"step": N_("Steps"), "tokens": N_("Tokens"), "time": N_("Time")}
"""What curves run over."""
AXIS: dict[Over, str] = {"step": N_("Step"), "tokens": N_("Tokens trained on"), "time": N_("Training time (s)")}
"""The same as the title of an axis."""
TIME_UNITS = ((7200.0, 3600.0, N_("Training time (h)")), (180.0, 60.0, N_("Training time (min)")))
"""Seconds from which a curve is shown in a unit, its seconds, and the title of the axis then; below it stays seconds."""
MOST_SMOOTHED = 0.5
"""Share of the points: more would leave a line of one value."""
ENDS = (1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0)
"""Where an axis may end, times a power of ten."""


@dataclass(frozen=True)
class Look:
    """What a reader has chosen."""

    over: Over = "step"
    smoothing: float = SMOOTHED_SHARE
    """Share of the points that are averaged; 0: the curve as it is."""
    is_log: bool = False
    """Whether the loss is on a logarithmic axis."""

    @property
    def percent(self) -> int:
        return round(100 * self.smoothing)


def look_of(words: Mapping[str, str]) -> Look:
    """That which the words of an address name; what they name wrongly is as it is without them."""
    over: Over = next((name for name in OVER if name == words.get("over")), "step")
    percent = words.get("smoothing", "")
    is_share = percent.isascii() and percent.isdecimal() and int(percent[:4]) <= 100 * MOST_SMOOTHED
    return Look(over, int(percent) / 100 if is_share else SMOOTHED_SHARE, words.get("log") == "1")


def words_of(look: Look) -> dict[str, str | None]:
    """The same the other way; None for a word that an address does not need."""
    usual = Look()
    return {
        "over": None if look.over == usual.over else look.over,
        "smoothing": None if look.percent == usual.percent else str(look.percent),
        "log": "1" if look.is_log else None,
    }


@dataclass(frozen=True)
class Scale:
    """Of the axis to the right."""

    title: str
    divisor: float = 1.0
    end: float | None = None
    """Where it ends at least; None without points."""


def scale_of(curves: Sequence[dict[str, Column]], over: Over, total_steps: int | None = None) -> Scale:
    """One that serves all of these runs' points, and that new points seldom change.

    Over steps it ends at the last one of the training when no round figure comes before that.
    """
    last = max((float(x[-1]) for columns in curves if len(x := points(columns, "step", over)[0])), default=None)
    title, divisor = AXIS[over], 1.0
    if over == "time" and last is not None:
        divisor, title = next(((unit, word) for least, unit, word in TIME_UNITS if last >= least), (1.0, title))
    if last is None:
        return Scale(title, divisor)
    end = round_end(last / divisor)
    if end and over == "step" and total_steps and last <= total_steps <= end:
        end = float(total_steps)
    return Scale(title, divisor, end)


def round_end(value: float) -> float | None:
    """The next round figure from `value` on, so that an axis that ends there stays when a point comes; None for 0 and below."""
    if not (math.isfinite(value) and value > 0):
        return None
    power = 10.0 ** math.floor(math.log10(value))
    return next((end * power for end in ENDS if end * power >= value * (1 - 1e-9)), 10 * power)


def height_of(values: Column, *, is_log: bool = False) -> list[float]:
    """Figures that an axis upwards shall show beside `values`: 0, or where there is none the round figure below; and the
    one above."""
    there = values[np.isfinite(values) & (values > 0 if is_log else True)]
    if not len(there):
        return []
    ends = [end for end in (round_end(float(there.max())),) if end is not None]
    return [round_start(float(there.min())) if is_log else 0.0, *ends]


def round_start(value: float) -> float:
    """The last round figure up to a positive `value`."""
    power = 10.0 ** math.floor(math.log10(value))
    return max((end * power for end in ENDS if end * power <= value * (1 + 1e-9)), default=power)


def log_ticks(low: float, high: float) -> list[float]:
    """What a logarithmic axis names: 1, 2 and 5 times the powers of ten; over more than three of them these alone. One
    power more on both sides, for who zooms out."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    heads = (1.0,) if last - first > 3 else (1.0, 2.0, 5.0)
    return [head * 10.0**power for power in range(first - 1, last + 2) for head in heads]


def place_on_curve(columns: dict[str, Column], steps: Sequence[int], over: Over) -> Column:
    """Where `steps` lie over what the curves run over; between two points in proportion."""
    if over == "step":
        return np.asarray(steps, dtype=float)
    x, known = points(columns, "step", over)
    return np.interp(steps, known, x) if len(x) else np.array([])


def points_csv(columns: dict[str, Column]) -> str:
    """Every point, a row each, with what it lacks left empty; the columns in which no point has anything are left out."""
    names = [name for name in COLUMNS if name in columns and np.isfinite(columns[name]).any()]
    written = io.StringIO()
    writer = csv.writer(written, lineterminator="\n")
    writer.writerow(map(csv_cell, names))
    for row in zip(*(columns[name].tolist() for name in names), strict=True):
        writer.writerow(csv_cell(_cell(value)) for value in row)
    return written.getvalue()


def _cell(value: float) -> int | float | str:
    if not math.isfinite(value):
        return ""
    return int(value) if value == int(value) and abs(value) < 2**53 else value
