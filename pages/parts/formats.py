"""Numbers for people: sizes, times, steps."""

from __future__ import annotations

import time

from lora_backend.i18n import N_, Message
from pages.parts.language import say, t

FIGURE_WIDTH = 172
"""Of a figure's box, in pixels; two stand side by side on a telephone."""
UNITS = ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"))


def gib(size_bytes: float | None) -> str:
    """Bytes in GiB (2**30)."""
    return "–" if size_bytes is None else f"{size_bytes / 2**30:.1f} GiB"


def size(size_bytes: float | None, *, sign: bool = False) -> str:
    """Bytes in the unit that reads best: GiB, MiB or KiB (powers of 1024)."""
    if size_bytes is None:
        return "–"
    unit, name = next(((unit, name) for unit, name in UNITS if abs(size_bytes) >= unit), (1, "B"))
    return f"{size_bytes / unit:{'+' if sign else ''}.{0 if unit == 1 else 2}f} {name}"


def duration(seconds: float | None) -> str:
    """`3 min 20 s`, `2 h 5 min`."""
    if seconds is None:
        return "–"
    whole = round(seconds)
    if whole < 60:
        return t(N_("{s} s"), s=whole)
    if whole < 3600:
        return t(N_("{min} min {s} s"), min=whole // 60, s=whole % 60)
    return t(N_("{h} h {min} min"), h=whole // 3600, min=whole % 3600 // 60)


def when(seconds: object) -> str:
    """A moment in the server's own time; a dash for what no clock would say."""
    if not isinstance(seconds, int | float) or not 0 <= seconds < 2**34:
        return "–"
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))


def plain(text: str) -> str:
    """Text of a user as it is, where Streamlit would read it as Markdown."""
    return "".join(f"\\{c}" if c in r"\`*_{}[]<>()#+-.!|~$:" else c for c in text)


def number(value: float | None, digits: int = 4) -> str:
    """Four significant digits, or a dash where there is none."""
    return "–" if value is None else f"{value:.{digits}g}"


def as_text(message: Message) -> str:
    """A sentence whose values came from outside: names and paths are shown as they are."""
    values = {key: plain(value) if isinstance(value, str) else value for key, value in message.values.items()}
    return say(Message(message.template, values))
