"""One run as one row: state, name, progress, result, and the way to its page."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from lora_backend.errors import RunError
from lora_backend.formats import number, when
from lora_backend.i18n import N_
from lora_backend.runs.history.loss_health import health_of
from lora_backend.runs.history.run_table import first_and_last_loss
from lora_backend.runs.record.run_folder import RunFolder
from pages.parts.shell import state_keys
from pages.parts.shell.language import say, t
from pages.parts.shell.markdown import Markdown, bold, joined
from pages.parts.shell.navigation import RUNS
from pages.parts.widgets.formats import duration
from pages.parts.widgets.status_badge import stage_in_words, status_badge


def run_title(run_json: dict[str, object]) -> str:
    """A run's name, else its model's."""
    config = run_json.get("config")
    model = str(config.get("model_name", "")) if isinstance(config, dict) else ""
    return str(run_json.get("name") or Path(model).name or "–")


def run_row(run: RunFolder) -> None:
    """Show a run in a list; one whose folder has just gone is left out."""
    try:
        about = run.read_run()
    except RunError:
        return
    state = run.state()
    with st.container(border=True, horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        status_badge(state.state, health_of(run))
        with st.container(width=330, gap=None):
            st.page_link(RUNS, label=bold(run_title(about)), query_params={state_keys.RUN: run.id})
            st.caption(joined(" · ", (run.id, when(about.get("created_at")))))
        st.caption(_in_short(run))


def _in_short(run: RunFolder) -> Markdown:
    state = run.state()
    if state.state == "failed" and state.message:
        return say(state.message)
    if not state.has_ended and state.stage != "training":
        return stage_in_words(state.stage)
    parts = []
    if state.total_steps:
        parts.append(t(N_("step {step} of {total}"), step=state.step, total=state.total_steps))
    if losses := first_and_last_loss(run):
        parts.append(t(N_("loss {first} → {last}"), first=number(losses[0], 3), last=number(losses[1], 3)))
    if state.has_ended and state.started_at and state.ended_at:
        parts.append(duration(state.ended_at - state.started_at))
    elif state.eta_s is not None:
        parts.append(t(N_("{time} left"), time=duration(state.eta_s)))
    return joined(" · ", parts)
