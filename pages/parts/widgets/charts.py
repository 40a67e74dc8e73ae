"""Plotly figures from plain data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape as html_escape
from typing import Any

import numpy as np

from lora_backend.escaping import visible
from lora_backend.i18n import N_
from lora_backend.runs.history.curve_marks import Marks
from lora_backend.runs.record.curves import Column, downsample, points, smooth, span_of
from lora_backend.views.curve_view import Look, Scale, height_of, log_ticks, place_on_curve, scale_of
from pages.parts.shell.language import t

SEVERAL = ("#0072b2", "#d55e00", "#009e73", "#2f97d1", "#c0689a", "#b87a00", "#8f8700", "#7a8694")
"""Colours of lines, one for each of up to eight that are compared.

The hues are those of Okabe and Ito, "Color Universal Design" (2008), which eyes that lack a kind of cone tell apart. The
bright ones are darkened, and grey stands for black: each has a contrast of 3 : 1 or more on the light page and the dark one.
The first four are far apart for every eye; of more than four some pairs are told apart by their dashes.
"""
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot", "8px,2px,2px,2px,2px,2px", "2px,6px")
"""And how each of them is drawn, so that no line is known by its colour alone."""
KEYS = ("━━━━", "━ ━ ━", "• • • •", "━ • ━ •", "━━ ━━", "━━ • ━━", "━ • • ━", "• • •")
"""The same where a table names a line."""
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "triangle-down", "star", "pentagon", "x")
LOSS, EVAL_LOSS, SPEED, _, RATE, NORM = SEVERAL[:6]
MEMORY = MARK = SEVERAL[7]
TICKS = {"learning_rate": {"tickformat": "~e", "labelalias": {"0e+0": "0"}}}
"""Figures that plotly would write in a form that nobody uses for them: `1e-4` is `100µ` there."""
Columns = dict[str, Column]
FEW = 20
"""Points up to which each is seen as one, and from which on a smoothed curve says more than the raw one."""


@dataclass(frozen=True)
class Line:
    """One curve of a chart."""

    id: str
    """By which the chart knows it again when points have come: so it stays hidden where it was hidden."""
    name: str
    x: Column
    y: Column
    color: str
    is_faint: bool = False
    """Whether it is drawn thinly behind the others, as the raw one of a smoothed curve."""
    dash: str = "solid"
    symbol: str = "circle"


def house_style(figure: Any, height: int, *, title: str | None = None) -> Any:
    """`figure` with the size of text, the margins, the colours and the hovering of every chart here; `title` stands above it.

    Colours of text and grid are the page's own, and the element that draws it gives them.
    """
    figure.update_layout(
        height=height,
        colorway=SEVERAL,
        font={"size": 13},
        margin={"l": 8, "r": 8, "t": 8 if title is None else 36, "b": 8},
        hovermode="x unified",
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
    )
    for update in (figure.update_xaxes, figure.update_yaxes):
        update(title_font_size=12, tickfont_size=12, zeroline=False, automargin=True)
    if title is not None:
        figure.update_layout(
            title={"text": title, "font": {"size": 14, "weight": 600}, "x": 0, "xref": "paper", "y": 0.98}
        )
    return figure


def loss_chart(
    columns: Columns, marks: Marks | None = None, look: Look | None = None, total_steps: int | None = None
) -> Any:
    """Training loss, raw and smoothed, and evaluation loss where there is one, with the run's `marks`."""
    look = look or Look()
    scale = scale_of([columns], look.over, total_steps)
    name, (x, y) = t(N_("Loss")), points(columns, "loss", look.over)
    span = span_of(len(x), look.smoothing) if len(x) >= FEW else 1
    lines = [Line("loss", name, x, y, LOSS, is_faint=span > 1)]
    if span > 1:
        label = t(N_("Loss, smoothed over {span} points"), span=span)
        lines.append(Line("loss_smoothed", label, x, smooth(y, span), LOSS))
    evaluated = points(columns, "eval_loss", look.over)
    lines.append(Line("eval_loss", t(N_("Evaluation loss")), *evaluated, EVAL_LOSS, symbol="diamond"))
    figure = _lines(lines, house_style(_figure(), 340), look, scale)
    figure.update_yaxes(title_text=name)
    if len(x) and marks:
        for label, steps, dash, symbol in (
            (t(N_("Checkpoint")), marks.saved, "dot", "triangle-up"),
            (t(N_("Ended")), marks.ended, "solid", "x"),
            (t(N_("Resumed")), marks.resumed, "dash", "triangle-right"),
        ):
            _mark(figure, label, (place_on_curve(columns, steps, look.over), x, y), scale, dash, symbol)
    return figure


def _mark(figure: Any, name: str, curve: tuple[Column, Column, Column], scale: Scale, dash: str, symbol: str) -> None:
    """A line from bottom to top at each place, and a symbol where it meets the curve, which the legend names; `curve` is
    the places, and the curve's x and y."""
    places, x, y = curve
    if not len(places):
        return
    line = {"color": MARK, "width": 1, "dash": dash}
    for place in (places / scale.divisor).tolist():
        figure.add_shape(type="line", x0=place, x1=place, y0=0, y1=1, yref="paper", layer="below", line=line)
    figure.add_scatter(
        x=places / scale.divisor,
        y=np.interp(places, x, y),
        name=in_chart(name),
        uid=f"mark_{symbol}",
        mode="markers",
        marker={"symbol": symbol, "size": 8, "color": MARK},
        hovertemplate=f"{in_chart(name)}<extra></extra>",
    )
    figure.update_layout(showlegend=True)


def figure_chart(
    columns: Columns,
    key: str,
    title: str,
    color: str,
    divisor: float = 1.0,
    *,
    look: Look | None = None,
    total_steps: int | None = None,
) -> Any:
    """One figure under its title; `divisor` divides it."""
    look = Look(over=look.over) if look else Look()
    x, y = points(columns, key, look.over)
    line = Line(key, title, x, y / divisor, color)
    figure = _lines([line], house_style(_figure(), 210, title=title), look, scale_of([columns], look.over, total_steps))
    return figure.update_yaxes(TICKS.get(key, {}))


def compared_chart(runs: Sequence[tuple[str, Columns]], key: str, title: str, look: Look | None = None) -> Any:
    """The same figure of several runs: each line has a colour and a dash of its own."""
    look = look or Look()
    scale = scale_of([columns for _, columns in runs if columns], look.over)
    lines = []
    for place, (name, columns) in enumerate(runs):
        x, y = points(columns, key, look.over)
        span = span_of(len(x), look.smoothing) if len(x) >= FEW else 1
        color, dash, symbol = (kinds[place % len(kinds)] for kinds in (SEVERAL, DASHES, SYMBOLS))
        if span > 1:
            lines.append(Line(f"{place}_raw", name, x, y, color, is_faint=True))
        lines.append(Line(f"{place}", name, x, smooth(y, span), color, dash=dash, symbol=symbol))
    figure = _lines(lines, house_style(_figure(), 380), look, scale, is_compared=True)
    figure.update_yaxes(TICKS.get(key, {}))
    # A legend of one curve too: only it says whose that is. And not from 0: what is compared are differences.
    return figure.update_layout(showlegend=True, yaxis={"title": {"text": title}, "rangemode": "normal"})


def in_chart(text: str) -> str:
    """A text of others where plotly would read tags, and `%{…}` in a hover template."""
    return html_escape(visible(text)).replace("{", "&#123;")


def _figure() -> Any:
    import plotly.graph_objects as go

    return go.Figure()


def _lines(lines: Sequence[Line], figure: Any, look: Look, scale: Scale, *, is_compared: bool = False) -> Any:
    """`figure` with `lines`, its axes ending at round figures, so that they stay when a point comes."""
    for line in lines:
        if not len(line.x):
            continue
        few_x, few_y = downsample(line.x / scale.divisor, line.y)
        shown = in_chart(line.name)
        figure.add_scatter(
            x=few_x,
            y=few_y,
            name=shown,
            uid=line.id,
            legendgroup=line.id.partition("_")[0] if is_compared else None,
            mode="lines+markers" if len(few_x) < FEW else "lines",
            marker={"symbol": line.symbol, "size": 6},
            line={"color": line.color, "width": 1 if line.is_faint else 2, "dash": line.dash},
            opacity=0.5 if line.is_faint else 1,
            showlegend=not (is_compared and line.is_faint),
            hoverinfo="skip" if is_compared and line.is_faint else None,
            hovertemplate=None if is_compared and line.is_faint else f"{shown} %{{y:.4g}}<extra></extra>",
        )
    heights = [] if is_compared else height_of(np.concatenate([line.y for line in lines]), is_log=look.is_log)
    figure.update_layout(
        showlegend=len(figure.data) > 1,
        # What is zoomed or hidden outlives new points, but no other axis.
        xaxis={"title": {"text": t(scale.title)}, "rangemode": "tozero", "uirevision": look.over},
        yaxis={"rangemode": "tozero", "type": "log" if look.is_log else "linear", "uirevision": str(look.is_log)},
        uirevision="keep",
    )
    figure.update_xaxes(unifiedhovertitle={"text": f"{t(scale.title)} %{{x}}"})
    if scale.end is not None:
        figure.update_xaxes(autorangeoptions={"include": [scale.end]})
    if heights and look.is_log:  # plotly takes the logarithm twice of what its own range shall include
        ticks = log_ticks(*heights)
        figure.update_yaxes(
            range=[math.log10(height) for height in heights], tickvals=ticks, ticktext=[f"{tick:g}" for tick in ticks]
        )
    elif heights:
        figure.update_yaxes(autorangeoptions={"include": heights})
    return figure


EVEN = "#9ecae1"
NUMBERED = 40
"""Blocks up to which there is room for a number in each cell of a heat map."""


def block_heat_map(
    layers: Sequence[tuple[str, int, float | None]], title: str, *, most_numbered: int = NUMBERED
) -> Any:
    """One value of every layer, each with its module and block: blocks to the right, modules downwards.

    `most_numbered`: blocks up to which each has its number, and each cell its value.
    """
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
            texttemplate="%{z:.3~g}" if len(blocks) <= most_numbered else None,
            xgap=1,
            ygap=1,
            hovertemplate=f"%{{y}} {t(N_('block'))} %{{x}}: %{{z:.3~g}}<extra></extra>",
        )
    )
    house_style(figure, 120 + 26 * len(modules), title=title).update_layout(
        hovermode="closest",
        yaxis={"autorange": "reversed"},
        # Plotly divides a short axis into halves of a block.
        xaxis={"title": {"text": t(N_("Block"))}, **({"dtick": 1} if len(blocks) <= most_numbered else {})},
    )
    return figure
