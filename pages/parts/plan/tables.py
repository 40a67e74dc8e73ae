"""A plan as figures: components of each device, as stacked bars and as a table."""

from __future__ import annotations

from typing import Any

import streamlit as st

from lora_backend.i18n import N_
from lora_backend.planning.plan import Plan
from lora_backend.planning.targets import GIB
from lora_backend.planning.verdict import Verdict
from lora_backend.views.plan_view import COMPONENTS, ranges
from pages.parts.plan.strip import COLORS, device_name
from pages.parts.shell.language import t
from pages.parts.widgets.charts import in_chart
from pages.parts.widgets.frames import frame

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
    """The same figures to read, in GiB: what each device has and holds, then what that is made of. Two tables, so that
    no column is out of sight."""
    held = [
        {
            t(N_("Device")): SIGNS[device.verdict] + device_name(device),
            t(N_("Blocks")): ranges(device.blocks) or "–",
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
            columns[t(N_("Utilisation"))] = st.column_config.ProgressColumn(
                format="%.0f %%", min_value=0, max_value=100
            )
        st.dataframe(frame(rows), column_config=columns, hide_index=True)
    st.caption(t(N_("All sizes in GiB, taken at each device's own peak.")))
