"""Curves as SVG inside of a page: its colours are the page's, so they follow light, dark and print; the same bytes for the same points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from lora_backend.escaping import visible
from lora_backend.formats import number
from lora_backend.runs.record.curves import Column, downsample

WIDTH, LEFT, RIGHT, TOP, BOTTOM = 640, 62, 12, 14, 26
MOST_POINTS = 400
"""Of a line: more would not be seen at this width."""
NUM_TICKS = 4


@dataclass(frozen=True)
class Line:
    """One curve; its place among the others decides its colour."""

    name: str
    x: Column
    y: Column


def chart_svg(title: str, lines: Sequence[Line], height: int = 220) -> str | None:
    """The picture; None where no curve has two points. `title` is what a reader hears in its place."""
    drawn = [(line.name, *downsample(line.x, line.y, MOST_POINTS)) for line in lines]
    if max((len(x) for _, x, _ in drawn), default=0) < 2:
        return None
    xs = [float(x) for _, column, _ in drawn for x in column]
    ys = [float(y) for _, _, column in drawn for y in column]
    first, span = min(xs), (max(xs) - min(xs)) or 1.0
    margin = (max(ys) - min(ys)) * 0.06 or abs(max(ys)) * 0.1 or 1.0
    low = max(min(ys) - margin, 0.0) if min(ys) >= 0 else min(ys) - margin
    tall = max(ys) + margin - low

    def place(x: float, y: float) -> tuple[float, float]:
        return (
            LEFT + (x - first) / span * (WIDTH - LEFT - RIGHT),
            height - BOTTOM - (y - low) / tall * (height - TOP - BOTTOM),
        )

    parts = [f'<svg role="img" viewBox="0 0 {WIDTH} {height}"><title>{_text(title)}</title>']
    for tick in range(NUM_TICKS + 1):
        x, y = place(first + tick / NUM_TICKS * span, low + tick / NUM_TICKS * tall)
        parts.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>')
        parts.append(
            f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{_text(number(low + tick / NUM_TICKS * tall, 3))}</text>'
        )
        anchor = "end" if tick == NUM_TICKS else "middle"
        parts.append(
            f'<text x="{x:.1f}" y="{height - 8}" text-anchor="{anchor}">{first + tick / NUM_TICKS * span:.0f}</text>'
        )
    for index, (_, column, values) in enumerate(drawn):
        corners = [place(float(x), float(y)) for x, y in zip(column, values, strict=True)]
        if corners:
            path = "L".join(f"{x:.1f} {y:.1f}" for x, y in corners)
            parts.append(f'<path class="line c{index}" d="M{path}"/>')
    return "".join([*parts, "</svg>"])


def _text(text: str) -> str:
    return escape(visible(text))
