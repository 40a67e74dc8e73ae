"""What a part found, as a table for people and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Verdict = Literal["holds", "measured", "fails", "left out"]


class LeftOutError(Exception):
    """A part that this machine or its packages do not allow; its text says why."""


@dataclass
class Outcome:
    """Of one part. `lines`: (name, planned or expected, measured, note) of each figure that the table shows."""

    verdict: Verdict
    words: str
    lines: list[tuple[str, str, str, str]] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)
    """For the JSON: bytes, seconds, tokens per second, by name."""
    part: str = ""
    seconds: float = 0.0


def table(outcomes: Sequence[Outcome]) -> str:
    """All parts, each with its figures below it, in columns."""
    rows = [("part", "verdict", "seconds", "")]
    for outcome in outcomes:
        rows.append((outcome.part, outcome.verdict, f"{outcome.seconds:.0f}", outcome.words))
        rows += [(f"  {name}", first, second, note) for name, first, second, note in outcome.lines]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return "\n".join(
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[3]]).rstrip()
        for row in rows
    )


def document(machine: dict[str, Any], outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """All that was found, for a file."""
    return {"format": 1, "machine": machine, "parts": [asdict(outcome) for outcome in outcomes]}
