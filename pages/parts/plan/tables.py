"""A plan as figures: components of each device, as stacked bars and as a table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import streamlit as st

from lora_backend.i18n import N_, Message
from lora_backend.planning.plan import DevicePlan, Plan
from lora_backend.planning.targets import GIB
from lora_backend.planning.verdict import Verdict
from lora_backend.views.plan_view import COMPONENTS
from lora_backend.views.strip_view import COLORS
from lora_backend.views.table import Cell, Fill, Table
from pages.parts.plan.strip import device_name, part_of
from pages.parts.shell.language import t
from pages.parts.widgets.charts import in_chart
from pages.parts.widgets.frames import frame
from pages.parts.widgets.tables import scrolling_table

PART, BLOCKS = N_("Part of the model"), N_("Blocks")
COMPONENT_COLORS = {
    "weights": "#0b5c8f",
    "adapter": "#23734f",
    "gradients": "#9a7410",
    "optimizer": "#83408c",
    "activations": "#4b9fd5",
    "logits": "#a4491a",
    "overhead": COLORS["overhead"],
}
SIGNS: dict[Verdict, str] = {"fits": "", "tight": "⚠ ", "over": "✗ "}
"""Before a device's name; the strip above the table says them in words."""
MOST_COLUMNS = 3
"""Devices that stand side by side on a screen of 400 pixels."""
IN_TOTAL = "– {part}"
"""A part of the total, in a row of its own."""


def component_bars(plan: Plan) -> Any:
    """One bar a device, one colour a component, after what others hold."""
    import plotly.graph_objects as go

    figure = go.Figure()
    devices = plan.devices
    rows = list(range(len(devices)))
    series = [(t(N_("held by others")), COLORS["held"], [device.target.held_bytes for device in devices])]
    series += [
        (t(word), COMPONENT_COLORS[name], [getattr(device.breakdown, name) for device in devices])
        for name, word in COMPONENTS.items()
    ]
    for name, color, sizes in series:
        if any(sizes):
            figure.add_bar(
                orientation="h",
                y=rows,
                x=[size / GIB for size in sizes],
                name=in_chart(name),
                marker_color=color,
                width=0.5,
                hovertemplate=f"{in_chart(name)}: %{{x:.2f}} GiB<extra></extra>",
            )
    for row, device in enumerate(devices):
        figure.add_annotation(
            text=f"<b>{in_chart(device_name(device))}</b>",
            x=0,
            y=row - 0.3,
            xref="paper",
            xanchor="left",
            yanchor="bottom",
            showarrow=False,
            font={"size": 12},
        )
    figure.update_layout(
        barmode="stack",
        height=90 + 46 * len(devices),
        margin={"l": 4, "r": 4, "t": 4, "b": 4},
        dragmode=False,
        xaxis={"ticksuffix": " GiB", "fixedrange": True, "nticks": 6},
        yaxis={"range": [len(devices) - 0.62, -0.92], "fixedrange": True, "visible": False},
        legend={
            "orientation": "h",
            "traceorder": "normal",
            "x": 0,
            "y": 0,
            "yref": "container",
            "yanchor": "bottom",
            "font": {"size": 11},
        },
    )
    return figure


def component_table(plan: Plan) -> None:
    """The same figures to read, in GiB. A column a device while they have room on a phone, else a row a device."""
    if len(plan.devices) <= MOST_COLUMNS:
        scrolling_table(_a_column_each(plan))
    else:
        _a_row_each(plan)
    st.caption(t(N_("All sizes in GiB, taken at each device's own peak.")))


def _a_column_each(plan: Plan) -> Table:
    """What each device has and holds, then what that is made of."""
    heads = [Message("{name}", {"name": SIGNS[device.verdict] + _short_name(device)}) for device in plan.devices]
    held: list[tuple[str, Callable[[DevicePlan], str]]] = [
        (PART if plan.is_shared else BLOCKS, lambda device: part_of(plan, device) or "–"),
        (N_("Utilisation"), lambda device: f"{min(device.utilisation, 9.99):.0%}"),
        (N_("Total"), lambda device: _gib(device.breakdown.total)),
        (N_("Free"), lambda device: _gib(device.free_bytes)),
        (N_("Capacity"), lambda device: _gib(device.target.capacity_bytes)),
        (N_("Held by others"), lambda device: _gib(device.target.held_bytes)),
    ]
    rows: list[tuple[Cell, ...]] = [(Message(word), *map(said, plan.devices)) for word, said in held]
    for name, word in COMPONENTS.items():
        sizes = (_gib(getattr(device.breakdown, name)) for device in plan.devices)
        rows.append((Message(IN_TOTAL, {"part": Message(word)}), *sizes))
    none: Fill = ""
    return Table((Message(N_("Device")), *heads), tuple(rows), (none,) * len(rows))


def _short_name(device: DevicePlan) -> str:
    """Without its card or its memory, which the strip and the row of its capacity say."""
    return device_name(device) if device.target.is_cpu else f"GPU {device.target.device}"


def _gib(size_bytes: float) -> str:
    return f"{size_bytes / GIB:.2f}"


def _a_row_each(plan: Plan) -> None:
    """Two tables: what each device has and holds, and what that is made of."""
    held = [
        {
            t(N_("Device")): SIGNS[device.verdict] + device_name(device),
            t(PART if plan.is_shared else BLOCKS): part_of(plan, device) or "–",
            t(N_("Utilisation")): min(device.utilisation, 9.99) * 100,
            t(N_("Total")): device.breakdown.total / GIB,
            t(N_("Free")): device.free_bytes / GIB,
            t(N_("Capacity")): device.target.capacity_bytes / GIB,
            t(N_("Held by others")): device.target.held_bytes / GIB,
        }
        for device in plan.devices
    ]
    parts = [
        {t(N_("Device")): device_name(device)}
        | {t(word): getattr(device.breakdown, name) / GIB for name, word in COMPONENTS.items()}
        for device in plan.devices
    ]
    for rows in (held, parts):
        columns: dict[str, Any] = {
            name: st.column_config.NumberColumn(format="%.2f")
            for name, value in rows[0].items()
            if isinstance(value, float)
        }
        if t(N_("Utilisation")) in columns:
            columns[t(N_("Utilisation"))] = st.column_config.ProgressColumn(format="%.0f%%", min_value=0, max_value=100)
        st.dataframe(frame(rows), column_config=columns, hide_index=True, placeholder="–")
