"""Curves as SVG inside of a page: its colours are the page's, so they follow light, dark and print; the same bytes for the same points."""

from __future__ import annotations

import math
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
"""Steps between the figures of an axis, or a few less or more, so that they are round."""


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
    first, last = min(xs), max(xs)
    levels = _ticks(min(ys), max(ys))
    low, tall = levels[0], levels[-1] - levels[0]

    def place(x: float, y: float) -> tuple[float, float]:
        return (
            LEFT + (x - first) / (last - first or 1.0) * (WIDTH - LEFT - RIGHT),
            height - BOTTOM - (y - low) / tall * (height - TOP - BOTTOM),
        )

    parts = [f'<svg role="img" viewBox="0 0 {WIDTH} {height}"><title>{_text(title)}</title>']
    for level in levels:
        _, y = place(first, level)
        parts.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{_text(number(level, 3))}</text>')
    for step in _ticks(first, last):
        if first <= step <= last:
            x, _ = place(step, low)
            parts.append(f'<text x="{x:.1f}" y="{height - 8}" text-anchor="middle">{_text(number(step, 6))}</text>')
    for index, (_, column, values) in enumerate(drawn):
        corners = [place(float(x), float(y)) for x, y in zip(column, values, strict=True)]
        if corners:
            path = "L".join(f"{x:.1f} {y:.1f}" for x, y in corners)
            parts.append(f'<path class="line c{index}" d="M{path}"/>')
    return "".join([*parts, "</svg>"])


def _ticks(low: float, high: float) -> list[float]:
    """Round values, about `NUM_TICKS` apart, of which the first is at most `low` and the last at least `high`."""
    apart = (high - low) / NUM_TICKS or abs(high) / NUM_TICKS or 1.0
    unit = 10.0 ** math.floor(math.log10(apart))
    step = next(unit * factor for factor in (1, 2, 2.5, 5, 10) if unit * factor >= apart * (1 - 1e-9))
    first, last = math.floor(low / step), math.ceil(high / step)
    return [step * place for place in range(first, max(last, first + 1) + 1)]


def _text(text: str) -> str:
    return escape(visible(text))
