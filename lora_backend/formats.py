"""Numbers for people: sizes, times, figures; the same in a terminal and on a page."""

from __future__ import annotations

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
    return f"{size_bytes / unit:{'+' if sign else ''}.{0 if unit == 1 else 2}f} {name}"


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


def when(seconds: object, form: str = "%Y-%m-%d %H:%M") -> str:
    """A moment in this machine's own time; a dash for what no clock would say."""
    if not isinstance(seconds, int | float) or not 0 <= seconds < LATEST_S:
        return "–"
    return time.strftime(form, time.localtime(seconds))
