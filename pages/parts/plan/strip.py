"""The layer strip: one bar a GPU, one cell a block, each as wide as the memory that it takes."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from lora_backend.formats import gib
from lora_backend.i18n import N_
from lora_backend.planning.cost.memory import Memory
from lora_backend.planning.plan import DevicePlan, Plan
from lora_backend.planning.targets import GIB
from lora_backend.planning.verdict import Verdict
from lora_backend.views.plan_view import ranges, strategy_message
from pages.parts.shell.language import say_plain, t, t_plain
from pages.parts.widgets.charts import in_chart

BLOCKS = ("#0b5c8f", "#1f78b4")
"""Neighbours take turns, so that each can be told from the next; white text reads on both."""
COLORS = {
    "held": "#7d8791",
    "embedding": "#23734f",
    "block": BLOCKS[0],
    "head": "#83408c",
    "loss": "#a4491a",
    "overhead": "#59646f",
    "gathered": "#3f7f8c",
    "waiting": "#5d6d9e",
}
NAMES = {
    "held": N_("held by others"),
    "embedding": N_("embedding"),
    "block": N_("blocks"),
    "head": N_("head"),
    "gathered": N_("gathered from the others"),
    "waiting": N_("weights in host memory"),
    "loss": N_("loss"),
    "overhead": N_("overhead"),
}
ROW_PX = 48
SELECTED = "#f0a92e"
TEXT = {"light": "#1b242c", "dark": "#e6ebef"}
OUTLINE = {"light": "#9aa5af", "dark": "#66727e"}
IN_DOUBT: dict[Verdict, dict[str, str]] = {
    "tight": {"light": "#8a5a00", "dark": "#f5b84d"},
    "over": {"light": "#c02626", "dark": "#ff8a80"},
}
"""Amber and red that read as text on either theme."""
FREE_FILL = "rgba(125, 135, 145, .16)"


@dataclass(frozen=True)
class Cell:
    """A stretch of a device's bar; bytes."""

    kind: str
    unit: int | None
    """The part of the model that it stands for, if it is one."""
    size_bytes: float


def cells_of(plan: Plan, device: DevicePlan, memory: Memory) -> list[Cell]:
    """What a device will hold, cut into cells that add up to its planned bytes.

    Weights belong to their part; adapter, gradients and optimizer go by trained parameters, activations by what each
    part keeps (equally, where none keeps anything). Loss and overhead are cells of their own, and with fsdp what is gathered.
    """
    held = device.breakdown
    if not device.units:  # weights that wait in host memory
        return [Cell("waiting", None, held.weights)] if held.weights else []
    whole = [memory.weights_bytes(unit) for unit in device.units]
    own = [(held.weights - device.gathered_bytes) * share for share in _shares(whole)]
    trained = [_trainable(plan, unit) for unit in device.units]
    kept = [max(_kept(plan, unit), 0.0) for unit in device.units]
    cells = []
    for unit, weights, of_trained, of_kept in zip(device.units, own, _shares(trained), _shares(kept), strict=True):
        states = (held.adapter + held.gradients + held.optimizer) * of_trained
        cells.append(Cell(_kind(plan, unit), unit, weights + states + held.activations * of_kept))
    tail = [("gathered", device.gathered_bytes), ("loss", held.logits), ("overhead", held.overhead)]
    return cells + [Cell(kind, None, size) for kind, size in tail if size]


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
    """`GPU 0 · A100-80G`; an amount of memory alone has no other name."""
    target = device.target
    if target.is_cpu:
        return t_plain(N_("CPU, host memory"))
    short = target.name.removeprefix("NVIDIA ")
    return f"GPU {target.device} · {gib(target.total_bytes) if short.startswith('GPU ') else short}"


def part_of(plan: Plan, device: DevicePlan) -> str:
    """Which part of the model a device holds: its blocks, all of it, or a share."""
    if not plan.is_shared:
        return ranges(device.blocks)
    if not device.units:
        return t_plain(N_("weights in host memory")) if device.breakdown.weights else ""
    if device.target.is_cpu:
        return say_plain(strategy_message(plan))
    if plan.strategy == "ddp":
        return t_plain(N_("whole model"))
    shard = plan.used.index(device) + 1
    return t_plain(N_("shard {shard} of {total}"), shard=shard, total=plan.workload.num_processes)


def room(device: DevicePlan) -> str:
    """Free or over, in words."""
    size = gib(abs(device.free_bytes))
    words = {"fits": N_("{size} free"), "tight": N_("tight: {size} free"), "over": N_("{size} over")}
    return ("⚠ " if device.verdict in IN_DOUBT else "") + t_plain(words[device.verdict], size=size)


def _bars(go: Any, kind: str, cells: list[tuple[int, Cell, float]], selected: Collection[int]) -> Any:
    name = t(NAMES[kind])
    is_block = kind == "block"
    texts = [str(cell.unit - 1) if is_block and cell.unit is not None else "" for _, cell, _ in cells]
    chosen = [cell.unit is not None and cell.unit in selected for _, cell, _ in cells]
    return go.Bar(
        orientation="h",
        name=name,
        y=[row for row, _, _ in cells],
        x=[cell.size_bytes / GIB for _, cell, _ in cells],
        base=[begin / GIB for _, _, begin in cells],
        width=0.5,
        text=texts,
        textposition="inside",
        insidetextanchor="middle",
        textangle=0,
        textfont={"color": "#ffffff", "size": 11},
        constraintext="inside",
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
    used = f"{100 * device.utilisation:.0f} % · " if device.breakdown.total else ""
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


def _kind(plan: Plan, unit: int) -> str:
    blocks = len(plan.profile.kind_of_block)
    return "block" if 0 < unit <= blocks else "embedding" if unit == 0 else "head"


def _trainable(plan: Plan, unit: int) -> int:
    profile, rank = plan.profile, plan.workload.size.rank
    if _kind(plan, unit) == "block":
        return profile.kinds[profile.kind_of_block[unit - 1]].trainable(rank)
    if unit == 0:
        return profile.embed.trainable(rank) + (profile.head.trainable(rank) if profile.is_tied else 0)
    return profile.head.trainable(rank)


def _kept(plan: Plan, unit: int) -> float:

    profile = plan.profile
    if _kind(plan, unit) != "block":
        return 0.0
    return float(profile.kinds[profile.kind_of_block[unit - 1]].forward.delta @ profile.monomials(plan.workload.size))


def _shares(parts: list[float] | list[int]) -> list[float]:
    whole = sum(parts)
    return [part / whole if whole else 1 / len(parts) for part in parts]
