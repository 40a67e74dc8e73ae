"""One step in time: a lane for each device, with what it does and when it waits."""

from __future__ import annotations

from typing import Any

import streamlit as st

from lora_backend.formats import two_digits
from lora_backend.i18n import N_, Message
from lora_backend.planning.figures import no_time
from lora_backend.planning.plan import Plan
from lora_backend.planning.timeline import Kind, Lane, Segment, StepTimeline, step_timeline
from lora_backend.views.plan_view import ranges
from lora_backend.views.strip_view import FREE_FILL, TEXT
from lora_backend.views.table import cell_text
from lora_backend.views.timeline_view import KINDS, timeline_note, timeline_table, timeline_words, works_message
from pages.parts.plan.figures import conditions_of
from pages.parts.plan.strip import CELLS, device_name
from pages.parts.plan.work import Work
from pages.parts.shell.language import say, say_plain, sentences, t, t_plain
from pages.parts.widgets.chart import show_chart
from pages.parts.widgets.charts import in_chart
from pages.parts.widgets.tables import wrapping_table

COLORS: dict[Kind, str] = {
    "forward": "#1f78b4",
    "backward": "#83408c",
    "transfer": "#a4491a",
    "gather": "#3f7f8c",
    "sum": "#23734f",
}
"""White text reads on each; what is idle has none."""
MOST_TURNS = 4
"""Passes of a step that are drawn one after the other; of more, the last stands for all."""
LANE_PX = 48
SHORT_S = 2.0
"""Below it the axis is told in milliseconds."""


def show_lanes(work: Work) -> None:
    """The picture, what it is, and the same as a table."""
    timeline = step_timeline(work.plan, work.config, conditions_of(work, work.plan, work.config))
    if timeline is None:
        st.info(say(no_time()), icon=":material/info:")
        return
    theme = "dark" if st.context.theme.type == "dark" else "light"
    words = " ".join(map(say_plain, timeline_words(timeline)))
    show_chart(lanes(timeline, work.plan, theme), key="plan_lanes", alt=words)
    note = timeline_note(timeline, work.plan, is_one_drawn=timeline.num_turns > MOST_TURNS)
    st.caption(sentences(map(say, note)))
    with st.expander(t(N_("Show as a table"))):
        table = timeline_table(timeline)
        cells = [
            [say_plain(cell) if isinstance(cell, Message) else cell_text(cell) for cell in row] for row in table.rows
        ]
        wrapping_table([say(head) for head in table.heads], cells, [""] * len(cells))


def lanes(timeline: StepTimeline, plan: Plan, theme: str) -> Any:
    """The figure: seconds to the right, a lane a device."""
    import plotly.graph_objects as go

    first = 0 if timeline.num_turns <= MOST_TURNS else timeline.num_turns - 1
    shown = [[one for one in lane.segments if one.turn >= first] for lane in timeline.lanes]
    begin, end = shown[0][0].mean_s[0], sum(timeline.step_s) / 2
    unit, unit_s = ("ms", 0.001) if end - begin < SHORT_S else ("s", 1.0)
    figure = go.Figure()
    for kind in COLORS:
        bars = [(row, one) for row, segments in enumerate(shown) for one in segments if one.kind == kind]
        if bars:
            figure.add_trace(_bars(go, kind, bars, begin, (unit, unit_s)))
    for row, lane in enumerate(timeline.lanes):
        _frame(figure, row, lane, (end - begin) / unit_s, say_plain(works_message(timeline, lane)), theme)
    figure.update_layout(
        height=74 + LANE_PX * len(shown),
        margin={"l": 4, "r": 4, "t": 4, "b": 4},
        barmode="overlay",
        bargap=0,
        dragmode=False,
        uniformtext={"minsize": 9, "mode": "hide"},
        legend={"orientation": "h", "y": 0, "yref": "container", "yanchor": "bottom", "x": 0, "itemclick": False, "itemdoubleclick": False, "font": {"size": 11}},
        xaxis={"range": [0, (end - begin) / unit_s * 1.01], "fixedrange": True, "ticksuffix": f" {unit}", "nticks": 6, "showgrid": False, "zeroline": False},
        yaxis={"range": [len(shown) - 0.62, -0.92], "fixedrange": True, "visible": False},
        hoverlabel={"align": "left"},
        showlegend=True,
        uirevision="keep",
    )  # fmt: skip
    return figure


def _bars(go: Any, kind: Kind, bars: list[tuple[int, Segment]], begin: float, unit: tuple[str, float]) -> Any:
    name, (word, unit_s) = in_chart(t_plain(KINDS[kind])), unit
    spans = [segment.mean_s for _, segment in bars]
    texts = [ranges(segment.blocks) for _, segment in bars]
    return go.Bar(
        **CELLS,
        name=name,
        y=[row for row, _ in bars],
        x=[(end - start) / unit_s for start, end in spans],
        base=[(start - begin) / unit_s for start, _ in spans],
        text=texts,
        customdata=[
            [f"{name} {text}".strip(), f"{two_digits((end - start) / unit_s)} {word}"]
            for text, (start, end) in zip(texts, spans, strict=True)
        ],
        hovertemplate="%{customdata[0]}: %{customdata[1]}<extra></extra>",
        marker={"color": COLORS[kind], "line": {"color": "rgba(255, 255, 255, .75)", "width": 0.6}},
    )


def _frame(figure: Any, row: int, lane: Lane, end: float, works: str, theme: str) -> None:
    """The whole lane, which is idle where nothing covers it, and the line of words above it."""
    figure.add_shape(
        type="rect", x0=0, x1=end, y0=row - 0.25, y1=row + 0.25, fillcolor=FREE_FILL, line={"width": 0}, layer="below"
    )
    words = {
        "xref": "paper",
        "y": row - 0.28,
        "yanchor": "bottom",
        "showarrow": False,
        "font": {"size": 12, "color": TEXT[theme]},
    }
    figure.add_annotation(text=f"<b>{in_chart(device_name(lane.device))}</b>", x=0, xanchor="left", **words)
    figure.add_annotation(text=f"<b>{in_chart(works)}</b>", x=1, xanchor="right", **words)
