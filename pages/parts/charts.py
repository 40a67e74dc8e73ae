"""Plotly figures from plain data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lora_backend.i18n import N_
from pages.parts.language import t

MAX_POINTS = 1000
"""More than a screen shows; beyond it only the largest and smallest of each stretch are drawn."""
LOSS, EVAL_LOSS, RATE, SPEED = "#2f8fd0", "#e0803a", "#8a6fd1", "#3a9e78"


def loss_chart(metrics: Sequence[dict[str, Any]]) -> Any:
    """Training loss, and evaluation loss where there is one, over steps."""
    series = [(t(N_("Loss")), "loss", LOSS), (t(N_("Evaluation loss")), "eval_loss", EVAL_LOSS)]
    return _lines(metrics, series, height=340, y_title=t(N_("Loss")))


def rate_chart(metrics: Sequence[dict[str, Any]]) -> Any:
    """Learning rate over steps."""
    return _lines(
        metrics, [(t(N_("Learning rate")), "learning_rate", RATE)], height=190, y_title=t(N_("Learning rate"))
    )


def speed_chart(metrics: Sequence[dict[str, Any]]) -> Any:
    """Trained tokens per second over steps."""
    return _lines(metrics, [(t(N_("Tokens/s")), "tokens_per_s", SPEED)], height=190, y_title=t(N_("Tokens/s")))


def _lines(metrics: Sequence[dict[str, Any]], series: list[tuple[str, str, str]], *, height: int, y_title: str) -> Any:
    import plotly.graph_objects as go

    figure = go.Figure()
    for name, key, color in series:
        points = thin([(row["step"], row[key]) for row in metrics if row.get(key) is not None])
        if not points:
            continue
        mode = "lines+markers" if key == "eval_loss" or len(points) < 3 else "lines"
        figure.add_scatter(
            x=[step for step, _ in points], y=[value for _, value in points], name=name, mode=mode,
            line={"color": color, "width": 2}, hovertemplate=f"{name} %{{y:.4g}}<extra></extra>",
        )  # fmt: skip
    figure.update_layout(
        height=height,
        margin={"l": 8, "r": 8, "t": 8, "b": 8},
        hovermode="x unified",
        showlegend=len(figure.data) > 1,
        legend={"orientation": "h", "y": 1.08, "x": 0},
        xaxis={"title": t(N_("Step")), "rangemode": "tozero"},
        yaxis={"title": y_title, "rangemode": "tozero"},
        uirevision="keep",  # a zoom outlives the next tick
    )
    return figure


def block_heat_map(records: Sequence[Mapping[str, Any]], key: str, title: str) -> Any:
    """One value of every layer: blocks to the right, modules downwards."""
    import plotly.graph_objects as go

    modules = list(dict.fromkeys(record["module"] for record in records))
    blocks = sorted({record["block"] for record in records})
    values = {(record["module"], record["block"]): record[key] for record in records}
    figure = go.Figure(
        go.Heatmap(
            x=blocks,
            y=modules,
            z=[[values.get((module, block)) for block in blocks] for module in modules],
            colorscale="Blues",
            zmin=0,  # counts only together with zmax
            zmax=max((record[key] or 0 for record in records), default=1),
            hovertemplate=f"%{{y}} {t(N_('block'))} %{{x}}: %{{z:.3g}}<extra></extra>",
        )
    )
    figure.update_layout(
        title={"text": title, "font": {"size": 14}},
        height=120 + 26 * len(modules),
        margin={"l": 8, "r": 8, "t": 36, "b": 8},
        yaxis={"autorange": "reversed"},
        xaxis={"title": t(N_("Block"))},
    )
    return figure


def thin(points: list[tuple[float, float]], limit: int = MAX_POINTS) -> list[tuple[float, float]]:
    """At most `limit` points: of each stretch the smallest and the largest value, so that no spike is lost."""
    if len(points) <= limit:
        return points
    size = -(-len(points) * 2 // limit)
    kept: list[tuple[float, float]] = []
    for begin in range(0, len(points), size):
        stretch = points[begin : begin + size]
        kept += sorted({min(stretch, key=lambda p: p[1]), max(stretch, key=lambda p: p[1])})
    return kept
