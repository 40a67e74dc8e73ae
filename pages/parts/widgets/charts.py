"""Plotly figures from plain data."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape as html_escape
from typing import Any

import numpy as np

from lora_backend.escaping import visible
from lora_backend.i18n import N_
from lora_backend.runs.record.curves import Column, downsample, points, smooth
from pages.parts.shell.language import t

LOSS, EVAL_LOSS, RATE, SPEED, NORM, MEMORY = "#2f8fd0", "#e0803a", "#8a6fd1", "#3a9e78", "#c25d8f", "#7a8694"
MARK = "#7a8694"
SEVERAL = ("#2f8fd0", "#e0803a", "#3a9e78", "#8a6fd1", "#c25d8f", "#b59b2b", "#4bb3b8", "#7a8694")
"""One for each of up to eight runs that are compared."""
Columns = dict[str, Column]
Line = tuple[str, Column, Column, str, bool]
"""Name, x, y, colour, and whether it is drawn faintly behind the others."""


def loss_chart(columns: Columns, saved: Sequence[int] = (), resumed: Sequence[int] = ()) -> Any:
    """Training loss, raw and smoothed, and evaluation loss where there is one, over steps; marked where it was `saved`
    and `resumed`."""
    x, y = points(columns, "loss")
    name = t(N_("Loss"))
    lines: list[Line] = [(name, x, y, LOSS, False)]
    if len(x) >= SMOOTHED_FROM:
        smoothed, span = smooth(y)
        label = t(N_("Loss, smoothed over {span} points"), span=span)
        lines = [(name, x, y, LOSS, True), (label, x, smoothed, LOSS, False)]
    lines.append((t(N_("Evaluation loss")), *points(columns, "eval_loss"), EVAL_LOSS, False))
    figure = _lines(lines, height=340, y_title=name)
    if len(x):
        _mark(figure, t(N_("Checkpoint")), saved, (x, y), "dot", "triangle-up")
        _mark(figure, t(N_("Resumed")), resumed, (x, y), "dash", "triangle-right")
    return figure


def _mark(figure: Any, name: str, steps: Sequence[int], curve: tuple[Column, Column], dash: str, symbol: str) -> None:
    """A line from bottom to top at each of `steps`, and a symbol where it meets the curve, which the legend names."""
    if not steps:
        return
    for step in steps:
        figure.add_shape(
            type="line",
            x0=step,
            x1=step,
            y0=0,
            y1=1,
            yref="paper",
            layer="below",
            line={"color": MARK, "width": 1, "dash": dash},
        )
    figure.add_scatter(
        x=list(steps),
        y=np.interp(steps, *curve),
        name=in_chart(name),
        mode="markers",
        marker={"symbol": symbol, "size": 8, "color": MARK},
        hovertemplate=f"{in_chart(name)}<extra></extra>",
    )
    figure.update_layout(showlegend=True)


SMOOTHED_FROM = 20
"""Points from which on a smoothed curve says more than the raw one."""


def figure_chart(columns: Columns, key: str, title: str, color: str, scale: float = 1.0) -> Any:
    """One figure over steps; `scale` divides it."""
    x, y = points(columns, key)
    return _lines([(title, x, y / scale, color, False)], height=190, y_title=title)


def compared_chart(runs: Sequence[tuple[str, Columns]], key: str, over: str, titles: tuple[str, str]) -> Any:
    """The same figure of several runs, over steps, time or tokens; `titles` of x and y."""
    lines: list[Line] = [
        (name, *points(columns, key, over), SEVERAL[index % len(SEVERAL)], False)
        for index, (name, columns) in enumerate(runs)
    ]
    figure = _lines(lines, height=380, y_title=titles[1], x_title=titles[0])
    # A legend of one curve too: only it says whose that is. And not from 0: what is compared are differences.
    return figure.update_layout(showlegend=True, yaxis_rangemode="normal")


def in_chart(text: str) -> str:
    """A text of others where plotly would read tags, and `%{…}` in a hover template."""
    return html_escape(visible(text)).replace("{", "&#123;")


def _lines(lines: Sequence[Line], *, height: int, y_title: str, x_title: str | None = None) -> Any:
    import plotly.graph_objects as go

    figure = go.Figure()
    for name, x, y, color, is_faint in lines:
        if not len(x):
            continue
        few_x, few_y = downsample(x, y)
        shown = in_chart(name)
        figure.add_scatter(
            x=few_x,
            y=few_y,
            name=shown,
            mode="lines+markers" if len(few_x) < 20 else "lines",
            line={"color": color, "width": 1 if is_faint else 2},
            opacity=0.5 if is_faint else 1,
            hovertemplate=f"{shown} %{{y:.4g}}<extra></extra>",
        )
    figure.update_layout(
        height=height,
        margin={"l": 8, "r": 8, "t": 8, "b": 8},
        hovermode="x unified",
        showlegend=len(figure.data) > 1,
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        xaxis={"title": x_title or t(N_("Step")), "rangemode": "tozero"},
        yaxis={"title": y_title, "rangemode": "tozero"},
        uirevision="keep",  # a zoom outlives the next tick
    )
    return figure


EVEN = "#9ecae1"
NUMBERED = 40
"""Blocks up to which there is room for a number in each cell of a heat map."""


def block_heat_map(layers: Sequence[tuple[str, int, float | None]], title: str) -> Any:
    """One value of every layer, each with its module and block: blocks to the right, modules downwards."""
    import plotly.graph_objects as go

    modules = list(dict.fromkeys(module for module, _, _ in layers))
    blocks = sorted({block for _, block, _ in layers})
    values = {(module, block): value for module, block, value in layers}
    known = [value for value in values.values() if value is not None]
    is_one = len(set(known)) == 1
    figure = go.Figure(
        go.Heatmap(
            x=blocks,
            y=[in_chart(module) for module in modules],
            z=[[values.get((module, block)) for block in blocks] for module in modules],
            # Of one value everywhere the top of the scale would be a dark field without a word.
            colorscale=[[0, EVEN], [1, EVEN]] if is_one else "Blues",
            showscale=not is_one,
            zmin=0,  # counts only together with zmax
            zmax=max(known, default=1) or 1,
            texttemplate="%{z:.3~g}" if len(blocks) <= NUMBERED else None,
            xgap=1,
            ygap=1,
            hovertemplate=f"%{{y}} {t(N_('block'))} %{{x}}: %{{z:.3~g}}<extra></extra>",
        )
    )
    figure.update_layout(
        title={"text": title, "font": {"size": 14}},
        height=120 + 26 * len(modules),
        margin={"l": 8, "r": 8, "t": 36, "b": 8},
        yaxis={"autorange": "reversed"},
        # Plotly divides a short axis into halves of a block.
        xaxis={"title": t(N_("Block")), **({"dtick": 1} if len(blocks) <= NUMBERED else {})},
    )
    return figure
