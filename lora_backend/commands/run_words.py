"""Runs in words for a terminal: states, times, what a run waits for, and tables whose columns stand in line."""

from __future__ import annotations

import time
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

from lora_backend.commands.words import plain
from lora_backend.config.diff import ABSENT
from lora_backend.config.findings import shorten
from lora_backend.i18n import N_, translate
from lora_backend.runs.queue import Waiting

STATE_WORDS = {
    "queued": N_("Queued"),
    "starting": N_("Starting"),
    "running": N_("Running"),
    "stopping": N_("Stopping"),
    "stopped": N_("Stopped"),
    "finished": N_("Finished"),
    "failed": N_("Failed"),
    "lost": N_("Lost"),
}
STAGE_WORDS = {
    "preparing": N_("preparing the model"),
    "data": N_("reading the data"),
    "loading": N_("loading the model"),
    "first_step": N_("trying the longest batch"),
    "training": N_("training"),
    "saving": N_("saving the adapter"),
    "answering": N_("answering the questions"),
}
UNITS = ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"))


def say(template: str, **values: object) -> str:
    """A sentence in the language of the command."""
    return translate(template).format(**values)


def state_word(state: str) -> str:
    """A state in the language of the command."""
    return say(STATE_WORDS[state]) if state in STATE_WORDS else plain(state)


def cell(value: Any, limit: int = 60) -> str:
    """A value of a config or a figure; a dash where there is none."""
    if value is None or value is ABSENT:
        return "–"
    if isinstance(value, float):
        return number(value)
    return shorten(plain(value) if isinstance(value, str) else value, limit).strip('"')


def number(value: float | None) -> str:
    """Four significant digits."""
    return "–" if value is None else f"{value:.4g}"


def size(size_bytes: float | None) -> str:
    """Bytes in the unit that reads best (powers of 1024)."""
    if size_bytes is None:
        return "–"
    unit, name = next(((unit, name) for unit, name in UNITS if abs(size_bytes) >= unit), (1, "B"))
    return f"{size_bytes / unit:.{0 if unit == 1 else 2}f} {name}"


def figure(name: str, value: Any, limit: int = 60) -> str:
    """A figure or a config's value by its name: bytes are shown as a size."""
    return size(value) if name.endswith("_bytes") and isinstance(value, int | float) else cell(value, limit)


def duration(seconds: float | None) -> str:
    """`3 min 20 s`, `2 h 5 min`."""
    if not _is_time(seconds):
        return "–"
    whole = round(seconds)
    if whole < 60:
        return say(N_("{s} s"), s=whole)
    if whole < 3600:
        return say(N_("{min} min {s} s"), min=whole // 60, s=whole % 60)
    return say(N_("{h} h {min} min"), h=whole // 3600, min=whole % 3600 // 60)


def when(seconds: float | None, form: str = "%Y-%m-%d %H:%M") -> str:
    """A moment in this machine's own time."""
    return time.strftime(form, time.localtime(seconds)) if _is_time(seconds) else "–"


def _is_time(seconds: object) -> TypeGuard[float]:
    """A file of a run may have come from anywhere, and a year of fourteen digits is none."""
    return isinstance(seconds, int | float) and abs(seconds) < 1e11


def waiting_text(waiting: Waiting) -> str:
    """Who has the devices of a queued run, who came before it, and what its plan lacks."""
    parts = []
    if waiting.holders:
        parts.append(say(N_("{runs} has its device."), runs=", ".join(sorted({holder.run for holder in waiting.holders}))))  # fmt: skip
    if waiting.ahead:
        parts.append(say(N_("{count} runs came before it: {runs}."), count=len(waiting.ahead), runs=", ".join(waiting.ahead)))  # fmt: skip
    for uuid, short_bytes in (waiting.short_bytes or {}).items():
        parts.append(say(N_("{size} more must become free on {gpu}."), size=size(short_bytes), gpu=uuid))
    if waiting.missing:
        parts.append(say(N_("The driver does not show {gpus}."), gpus=", ".join(waiting.missing)))
    return " ".join(parts) or say(N_("It starts by itself when its turn comes."))


def waiting_document(waiting: Waiting) -> dict[str, Any]:
    """The same for a script."""
    return {
        "holders": [{"device": holder.key, "run": holder.run, "since": holder.since} for holder in waiting.holders],
        "ahead": list(waiting.ahead),
        "short_bytes": dict(waiting.short_bytes or {}),
        "missing": list(waiting.missing),
    }


def damaged_lines(damaged: Sequence[Mapping[str, Any]]) -> list[str]:
    """What is wrong with checkpoints that are passed over."""
    template = N_("{checkpoint} is damaged: {problems}.")
    return [say(template, checkpoint=item["checkpoint"], problems=", ".join(item["problems"])) for item in damaged]


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Rows of as many cells each, every column as wide as its widest cell."""
    widths = [max(map(_width, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(text + " " * (width - _width(text)) for text, width in zip(row, widths, strict=True)) for row in rows]  # fmt: skip
    return "\n".join(line.rstrip() for line in lines)


def _width(text: str) -> int:
    """Columns that a text takes in a terminal; a Chinese character takes two."""
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)
