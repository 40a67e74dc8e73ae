"""Maps of an adapter's layers: rank and scaling against what is expected, and what the values say."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import streamlit as st

from lora_backend.i18n import N_
from lora_backend.views.rank_map import LayerMap, rank_map, scaling_map
from lora_backend.views.rank_view import LayerRow, in_blocks
from lora_backend.views.strip_view import TEXT
from pages.parts.shell.language import say, say_plain, t, t_plain
from pages.parts.shell.markdown import Markdown, joined
from pages.parts.widgets.chart import show_chart
from pages.parts.widgets.charts import NUMBERED, block_heat_map, in_chart

FEW = 12
"""Blocks up to which each is numbered, and has its rank written into it where the title has said it already."""
AS_EXPECTED = "#9fd3b4"
LESS, LESS_NEAR, MORE_NEAR, MORE = "#b35806", "#f1a340", "#998ec3", "#542788"
"""Told apart by eyes that see no red or green; the sign before the number says it as well."""
EXPECTED = {"light": "#e3e9ee", "dark": "#3a4650"}
OTHER = {"light": "#c3ccd4", "dark": "#5b6873"}
"""Cells without a rank to compare."""


def show_maps(rows: Sequence[LayerRow], key: str) -> None:
    """The maps that there is something to draw of."""
    for name, found in (("rank", rank_map(rows)), ("scaling", scaling_map(rows))):
        if found is not None:
            show_chart(difference_map(found, _theme()), key=f"map-{name}-{key}", alt=say_plain(found.title))
            if found.signs:
                st.caption(joined(" · ", map(say, found.signs)))
    drawn = in_blocks(rows)
    if not any(row.norm is not None for row in drawn):
        return
    values: list[tuple[str, Markdown, Callable[[LayerRow], float | None]]] = [
        ("effective_rank", t(N_("Effective rank")), lambda row: row.effective_rank),
        ("norm", t(N_("Norm")), lambda row: row.norm),
    ]
    for column, (name, title, value) in zip(st.columns(len(values)), values, strict=True):
        layers = [(row.record.module or "", row.record.block or 0, value(row)) for row in drawn]
        with column:
            # Half a page wide: the numbers of many blocks would be specks there.
            show_chart(block_heat_map(layers, title, most_numbered=FEW), key=f"map-{name}-{key}", alt=title)


def _theme() -> str:
    return "dark" if st.context.theme.type == "dark" else "light"


def difference_map(found: LayerMap, theme: str) -> Any:
    """One colour where all is as expected; else less to one side of it, more to the other, and grey without either."""
    import plotly.graph_objects as go

    modules = list(dict.fromkeys(cell.module for cell in found.cells))
    blocks = sorted({cell.block for cell in found.cells})
    cells = {(cell.module, cell.block): cell for cell in found.cells}
    grid = [[cells.get((module, block)) for block in blocks] for module in modules]
    figure = go.Figure()
    shared = {
        "x": blocks,
        "y": [in_chart(module) for module in modules],
        "xgap": 1,
        "ygap": 1,
        "text": [[cell.text if cell else "" for cell in row] for row in grid],
        "texttemplate": "%{text}" if len(blocks) <= (FEW if found.is_as_expected else NUMBERED) else None,
        "customdata": [[in_chart(say_plain(cell.said)) if cell else "" for cell in row] for row in grid],
        "hovertemplate": f"%{{y}} {t_plain(N_('block'))} %{{x}}: %{{customdata}}<extra></extra>",
    }
    others = [[1 if cell and cell.difference is None else None for cell in row] for row in grid]
    if any(any(row) for row in others):
        grey = OTHER[theme]
        figure.add_heatmap(
            z=others, colorscale=[[0, grey], [1, grey]], showscale=False, textfont={"color": TEXT[theme]}, **shared
        )
    known = [[None if cell is None else cell.difference for cell in row] for row in grid]
    figure.add_heatmap(z=known, **_colours(found, theme), **shared)
    figure.update_layout(
        title={"text": in_chart(say_plain(found.title)), "font": {"size": 14, "weight": 600}, "x": 0, "xref": "paper"},
        height=120 + 26 * len(modules),
        margin={"l": 8, "r": 8, "t": 36, "b": 8},
        yaxis={"autorange": "reversed"},
        xaxis={"title": t_plain(N_("Block")), "dtick": 1 if len(blocks) <= FEW else 5},
    )
    return figure


def _colours(found: LayerMap, theme: str) -> dict[str, Any]:
    if found.is_as_expected:
        return {"colorscale": [[0, AS_EXPECTED], [1, AS_EXPECTED]], "showscale": False}
    largest = found.largest
    scale = [[0, LESS], [0.499, LESS_NEAR], [0.4995, EXPECTED[theme]], [0.5005, EXPECTED[theme]], [0.501, MORE_NEAR], [1, MORE]]  # fmt: skip
    words = [t_plain(N_("less")), t_plain(N_("as expected")), t_plain(N_("more"))]
    return {
        "colorscale": scale,
        "zmin": -largest,
        "zmax": largest,
        "colorbar": {"tickvals": [-largest, 0, largest], "ticktext": words, "thickness": 12},
    }
