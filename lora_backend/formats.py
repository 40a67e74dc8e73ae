"""Numbers for people: sizes, times, figures; the same in a terminal and on a page."""

from __future__ import annotations

import math
import time

from lora_backend.i18n import N_, Message

UNITS = ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"))
LATEST_S = 2**34
"""A file of a run may have come from anywhere, and a moment after the year 2500 is none."""


def size(size_bytes: float | None, *, sign: bool = False) -> str:
    """Bytes in the unit that reads best: GiB, MiB or KiB (powers of 1024)."""
    if size_bytes is None:
        return "–"
    unit, name = next(((unit, name) for unit, name in UNITS if abs(size_bytes) >= unit), (1, "B"))
    return f"{size_bytes / unit:{'+' if sign and size_bytes else ''}.{0 if unit == 1 else 2}f} {name}"


def rough_size(size_bytes: float) -> str:
    """Bytes as exact as it takes to see whether they fit: `131 GiB`, `2.7 GiB`, `513 MiB`."""
    figure, unit = size(size_bytes).split(" ")
    return f"{figure if unit == 'B' else f'{float(figure):.{0 if float(figure) >= 10 else 1}f}'} {unit}"


def gib(size_bytes: float | None) -> str:
    """Bytes in GiB (2**30), for figures that stand beside each other."""
    return "–" if size_bytes is None else f"{size_bytes / 2**30:.1f} GiB"


def number(value: float | None, digits: int = 4) -> str:
    """Four significant digits, or a dash where there is none."""
    return "–" if value is None else f"{value:.{digits}g}"


def duration(seconds: float | None) -> Message:
    """`3 min 20 s`, `2 h 5 min`, in words of the reader's language; a dash for none."""
    if seconds is None or not abs(seconds) < LATEST_S:
        return Message("–")
    whole = round(seconds)
    if whole < 60:
        return Message(N_("{s} s"), {"s": whole})
    if whole < 3600:
        return Message(N_("{min} min {s} s"), {"min": whole // 60, "s": whole % 60})
    return Message(N_("{h} h {min} min"), {"h": whole // 3600, "min": whole % 3600 // 60})


def seconds_range(low: float, high: float) -> Message:
    """`1.2 to 2.4 s`, `42 to 81 h`: both ends in the unit that suits the longer one, with two significant digits;
    `8.4 s to 2.8 min` where the shorter one is less than one of it."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return Message("–")
    one_of = next((unit for unit in RANGE_UNITS if high < unit[0]), RANGE_UNITS[-1])
    _, unit_s, between, about = one_of
    first, last = (two_digits(seconds / unit_s) for seconds in (low, high))
    if unit_s in SMALLER and low < unit_s:  # `0.14 min` is no way to say 8 s
        smaller_s, between = SMALLER[unit_s]
        return Message(between, {"low": two_digits(low / smaller_s), "high": last})
    return Message(about, {"value": last}) if first == last else Message(between, {"low": first, "high": last})


RANGE_UNITS: tuple[tuple[float, float, str, str], ...] = (
    (120.0, 1.0, N_("{low} to {high} s"), N_("about {value} s")),
    (7200.0, 60.0, N_("{low} to {high} min"), N_("about {value} min")),
    (10 * 86400.0, 3600.0, N_("{low} to {high} h"), N_("about {value} h")),
    (math.inf, 86400.0, N_("{low} to {high} days"), N_("about {value} days")),
)
"""Seconds up to which a range is told in a unit, the unit's own seconds, and its words."""
SMALLER: dict[float, tuple[float, str]] = {
    60.0: (1.0, N_("{low} s to {high} min")),
    3600.0: (60.0, N_("{low} min to {high} h")),
    86400.0: (3600.0, N_("{low} h to {high} days")),
}
"""Of a unit the next smaller one, for a range whose lower end is less than one of it, and its words."""


def money_range(low: float, high: float, currency: str) -> Message:
    """`3.40 to 6.50 USD`, with two significant digits, and cents below ten."""
    first, last = (
        f"{rounded:.2f}" if (rounded := _two_digits(amount)) < 10 else f"{rounded:,.0f}" for amount in (low, high)
    )
    if first == last:
        return Message(N_("about {value} {currency}"), {"value": last, "currency": currency})
    return Message(N_("{low} to {high} {currency}"), {"low": first, "high": last, "currency": currency})


def two_digits(value: float) -> str:
    """Two significant digits, without an exponent: `0.85`, `4.2`, `42`, `1,200`."""
    rounded = _two_digits(value)
    return f"{rounded:,.0f}" if rounded >= 10 else f"{rounded:.10f}".rstrip("0").rstrip(".") or "0"


def _two_digits(value: float) -> float:
    return float(f"{value:.2g}")


def when(seconds: object, form: str = "%Y-%m-%d %H:%M") -> str:
    """A moment in this machine's own time; a dash for what no clock would say."""
    if not isinstance(seconds, int | float) or not 0 <= seconds < LATEST_S:
        return "–"
    return time.strftime(form, time.localtime(seconds))
