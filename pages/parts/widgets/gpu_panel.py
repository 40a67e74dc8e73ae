"""GPUs at this moment, with their last minutes: a box each."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from lora_backend.i18n import N_
from lora_backend.runs.history.usage import GpuUsage
from lora_backend.views.gpu_view import (
    Bullet,
    Reading,
    bullet_of,
    figures_of,
    kept_readings,
    memory_parts,
    untold,
)
from pages.parts.shell.html import Html, tag
from pages.parts.shell.language import say, t
from pages.parts.shell.markdown import bold, escape, joined
from pages.parts.shell.services import installation

FIGURE_WIDTH = 160
"""Of a figure's box, in pixels; two stand side by side within the box of a GPU on a telephone."""
TRACK = "position: relative; display: flex; height: 14px; border-radius: 4px; overflow: hidden; background: rgba(128, 138, 150, .22)"
OWN, OTHERS = "background: #0072b2", "background: #7a8694"
MARK = "position: absolute; top: 0; bottom: 0; width: 3px; margin-left: -3px; background: currentColor"


def gpu_panel(gpus: Sequence[GpuUsage], key: str) -> None:
    """For each of `gpus` its memory beside what is planned for it, how busy and warm it is, and what it draws.

    To be drawn again and again: what it has seen is kept in the session under `key`.
    """
    past: dict[str, list[Reading]] = st.session_state.setdefault(f"gpu_panel-{key}", {})
    now = installation().clock()
    for found in gpus:
        readings = kept_readings(past.get(found.gpu.uuid, []), Reading(now, found.gpu))
        past[found.gpu.uuid] = readings
        with st.container(border=True):
            _gpu(found, readings)


def _gpu(found: GpuUsage, readings: Sequence[Reading]) -> None:
    st.markdown(bold(t(N_("GPU {index}: {name}"), index=found.gpu.index, name=found.gpu.name)))
    st.html(_bullet(bullet_of(found)))
    st.caption(joined(" · ", map(say, memory_parts(found))))
    figures = figures_of(readings)
    with st.container(horizontal=True):
        for figure in figures:
            value = escape(figure.text) if isinstance(figure.text, str) else say(figure.text)
            # Two points are the fewest that make a line; a place is kept for it, so that nothing moves when it comes.
            line = figure.past if len(figure.past) > 1 else [*figure.past, *figure.past] or None
            st.metric(t(figure.head), value, chart_data=line, chart_type="area", border=True, width=FIGURE_WIDTH)
    if missing := untold(figures):
        st.caption(say(missing))


def _bullet(shares: Bullet) -> Html:
    """A bar as long as the GPU's memory: what the run holds, what others hold, and a line at what is planned."""
    parts = []
    for share, fill in ((shares.trainer, OWN), (shares.others, OTHERS)):
        style = f"{fill}; width: {100 * share:.2f}%"
        parts.append(tag("div", (), style=style))
    if shares.planned is not None:
        style = f"{MARK}; left: {100 * shares.planned:.2f}%"
        parts.append(tag("div", (), style=style))
    return tag("div", parts, style=TRACK)
