"""The chart of the tab that truncates: loss, energy and bytes over ranks, with the slider's place and the knee."""

from __future__ import annotations

from typing import Any

from lora_backend.i18n import N_
from lora_backend.verification.curve_points import RankCurve
from lora_backend.views.rank_curve_view import Choice, EnergyLine
from pages.parts.shell.language import t_plain
from pages.parts.widgets.charts import EVAL_LOSS, LOSS, MARK, SEVERAL, in_chart

SIZE, ENERGY, KNEE = "rgba(122, 134, 148, 0.28)", LOSS, SEVERAL[2]
MIB = 2**20


def rank_chart(line: EnergyLine, chosen: Choice, curve: RankCurve | None) -> Any:
    """Bytes as an area; above it the measured loss, or the energy that is kept where none was measured."""
    import plotly.graph_objects as go

    figure = go.Figure()
    _size(figure, line)
    if curve is None:
        _energy(figure, line)
    else:
        _loss(figure, curve)
    _mark(figure, chosen.average, in_chart(t_plain(N_("Slider"))))
    figure.update_layout(
        height=320,
        margin={"l": 8, "r": 8, "t": 8, "b": 8},
        hovermode="x unified",
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        xaxis={"title": in_chart(t_plain(N_("Rank"))), "range": [0.5, line.ranks[-1] + 0.5], "tickformat": "d"},
        yaxis={"title": in_chart(t_plain(N_("Loss") if curve else N_("Energy kept (%)")))},
        yaxis2={
            "title": in_chart(t_plain(N_("Size (MiB)"))),
            "overlaying": "y",
            "side": "right",
            "rangemode": "tozero",
            "tickmode": "auto",
            "showgrid": False,
        },
        uirevision="keep",
    )
    return figure


def _size(figure: Any, line: EnergyLine) -> None:
    name = in_chart(t_plain(N_("Size (MiB)")))
    figure.add_scatter(
        x=line.ranks,
        y=[size_bytes / MIB for size_bytes in line.sizes_bytes],
        name=name,
        yaxis="y2",
        mode="lines",
        line={"color": SIZE, "width": 1},
        fill="tozeroy",
        fillcolor=SIZE,
        hovertemplate=f"{name} %{{y:.3~g}}<extra></extra>",
    )


def _energy(figure: Any, line: EnergyLine) -> None:
    name = in_chart(t_plain(N_("Energy kept (%)")))
    figure.add_scatter(
        x=line.ranks,
        y=[100 * energy for energy in line.energies],
        name=name,
        mode="lines+markers",
        line={"color": ENERGY, "width": 2},
        hovertemplate=f"{name} %{{y:.2f}}<extra></extra>",
    )


def _loss(figure: Any, curve: RankCurve) -> None:
    name, base = in_chart(t_plain(N_("Loss"))), in_chart(t_plain(N_("Base model alone")))
    ranks = [point.rank for point in curve.points]
    figure.add_scatter(
        x=ranks,
        y=[point.loss for point in curve.points],
        name=name,
        mode="lines+markers",
        line={"color": EVAL_LOSS, "width": 2},
        hovertemplate=f"{name} %{{y:.4g}}<extra></extra>",
    )
    figure.add_scatter(
        x=[0.5, ranks[-1] + 0.5],
        y=[curve.base_loss] * 2,
        name=base,
        mode="lines",
        line={"color": MARK, "width": 1, "dash": "dash"},
        hovertemplate=f"{base} %{{y:.4g}}<extra></extra>",
    )
    knee = in_chart(t_plain(N_("Knee: rank {rank}"), rank=curve.knee.rank))
    figure.add_scatter(
        x=[curve.knee.rank],
        y=[curve.knee.loss],
        name=knee,
        mode="markers",
        marker={"symbol": "star", "size": 15, "color": KNEE, "line": {"color": "white", "width": 1}},
        hovertemplate=f"{knee}<extra></extra>",
    )


def _mark(figure: Any, rank: float, name: str) -> None:
    figure.add_vline(
        x=rank, line={"color": EVAL_LOSS, "width": 1, "dash": "dot"}, annotation_text=name, annotation_font_size=11
    )
