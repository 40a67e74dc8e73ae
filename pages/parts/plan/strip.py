"""The layer strip: one bar a GPU, one cell a block, each as wide as the memory that it takes."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from lora_backend.formats import gib
from lora_backend.planning.cost.memory import Memory
from lora_backend.planning.plan import DevicePlan, Plan
from lora_backend.planning.targets import GIB
from lora_backend.views.strip_view import (
    BLOCKS,
    COLORS,
    FREE_FILL,
    IN_DOUBT,
    NAMES,
    OUTLINE,
    SELECTED,
    TEXT,
    Cell,
    cells_of,
    device_message,
    part_message,
    room_message,
)
from pages.parts.shell.language import say_plain, t
from pages.parts.widgets.charts import in_chart

CELLS: dict[str, Any] = {
    "orientation": "h",
    "width": 0.5,
    "textposition": "inside",
    "insidetextanchor": "middle",
    "textangle": 0,
    "textfont": {"color": "#ffffff", "size": 11},
    "constraintext": "inside",
}
"""Cells of a device, side by side in its row, with their blocks in white."""
ROW_PX = 48


def strip(plan: Plan, selected: Collection[int], theme: str) -> Any:
    """The figure. A click on a cell selects its part; `selected` ones have a frame."""
    import plotly.graph_objects as go

    figure, memory = go.Figure(), Memory(plan.profile, plan.workload)
    points: dict[str, list[tuple[int, Cell, float]]] = {kind: [] for kind in NAMES}
    for row, device in enumerate(plan.devices):
        begin = float(device.target.held_bytes)
        if begin:
            points["held"].append((row, Cell("held", None, begin), 0.0))
        for cell in cells_of(plan, device, memory):
            points[cell.kind].append((row, cell, begin))
            begin += cell.size_bytes
    for kind, cells in points.items():
        if cells:
            figure.add_trace(_bars(go, kind, cells, selected))
    for row, device in enumerate(plan.devices):
        _frame(figure, row, device, part_of(plan, device), theme)
    widest = max(max(d.target.total_bytes, d.target.held_bytes + d.breakdown.total) for d in plan.devices) / GIB
    figure.update_layout(
        height=74 + ROW_PX * len(plan.devices),
        margin={"l": 4, "r": 4, "t": 4, "b": 4},
        barmode="overlay",
        bargap=0,
        dragmode=False,
        uniformtext={"minsize": 9, "mode": "hide"},
        legend={"orientation": "h", "y": 0, "yref": "container", "yanchor": "bottom", "x": 0, "itemclick": False, "itemdoubleclick": False, "font": {"size": 11}},
        xaxis={"range": [0, widest * 1.01], "fixedrange": True, "ticksuffix": " GiB", "nticks": 6, "showgrid": False, "zeroline": False},
        yaxis={"range": [len(plan.devices) - 0.62, -0.92], "fixedrange": True, "visible": False},
        hoverlabel={"align": "left"},
        uirevision="keep",
    )  # fmt: skip
    return figure


def device_name(device: DevicePlan) -> str:
    """`GPU 0 · A100-80G`, for a chart or a cell."""
    return say_plain(device_message(device))


def part_of(plan: Plan, device: DevicePlan) -> str:
    """Which part of the model a device holds, likewise."""
    return say_plain(part_message(plan, device))


def room(device: DevicePlan) -> str:
    """Free or over, in words."""
    return say_plain(room_message(device))


def _bars(go: Any, kind: str, cells: list[tuple[int, Cell, float]], selected: Collection[int]) -> Any:
    name = t(NAMES[kind])
    is_block = kind == "block"
    texts = [str(cell.unit - 1) if is_block and cell.unit is not None else "" for _, cell, _ in cells]
    chosen = [cell.unit is not None and cell.unit in selected for _, cell, _ in cells]
    return go.Bar(
        **CELLS,
        name=name,
        y=[row for row, _, _ in cells],
        x=[cell.size_bytes / GIB for _, cell, _ in cells],
        base=[begin / GIB for _, _, begin in cells],
        text=texts,
        customdata=[[cell.unit, f"{name} {text}".strip(), gib(cell.size_bytes)] for (_, cell, _), text in zip(cells, texts, strict=True)],
        hovertemplate="%{customdata[1]}: %{customdata[2]}<extra></extra>",
        marker={
            "color": [BLOCKS[(cell.unit or 0) % 2] if is_block else COLORS[kind] for _, cell, _ in cells],
            "line": {
                "color": [SELECTED if one else "rgba(255, 255, 255, .75)" for one in chosen],
                "width": [2.5 if one else 0.6 for one in chosen],
            },
        },
        selected={"marker": {"opacity": 1}},
        unselected={"marker": {"opacity": 1}},
    )  # fmt: skip


def _frame(figure: Any, row: int, device: DevicePlan, part: str, theme: str) -> None:
    """The device's own capacity: what is there of it, its end, and the line of words above it."""
    end = device.target.total_bytes / GIB
    figure.add_shape(
        type="rect", x0=0, x1=end, y0=row - 0.25, y1=row + 0.25, fillcolor=FREE_FILL, line={"width": 0}, layer="below"
    )
    color = IN_DOUBT.get(device.verdict, OUTLINE)[theme]
    figure.add_shape(type="line", x0=end, x1=end, y0=row - 0.27, y1=row + 0.27, line={"color": color, "width": 3})
    left = f"<b>{in_chart(device_name(device))}</b>" + (f" · {in_chart(part)}" if part else "")
    used = f"{100 * device.utilisation:.0f}% · " if device.breakdown.total else ""
    words = {
        "xref": "paper",
        "y": row - 0.28,
        "yanchor": "bottom",
        "showarrow": False,
        "font": {"size": 12, "color": TEXT[theme]},
    }
    figure.add_annotation(text=left, x=0, xanchor="left", **words)
    if device.verdict in IN_DOUBT:
        words["font"] = {"size": 12, "color": color}
    figure.add_annotation(text=f"{used}<b>{room(device)}</b>", x=1, xanchor="right", **words)
