"""One run as one row: state, name, progress, result, and the way to its page."""

from __future__ import annotations

import streamlit as st

from lora_backend.errors import RunError
from lora_backend.formats import when
from lora_backend.runs.history.loss_health import health_of
from lora_backend.runs.record.run_store import RunStore
from lora_backend.views.run_view import run_in_short, run_title
from pages.parts.shell import addresses
from pages.parts.shell.language import say
from pages.parts.shell.markdown import bold, joined
from pages.parts.shell.navigation import RUNS
from pages.parts.widgets.status_badge import status_badge


def run_row(run: RunStore) -> None:
    """Show a run in a list; one whose folder has just gone is left out."""
    try:
        record = run.read_record()
    except RunError:
        return
    state = run.state()
    with st.container(border=True, horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        status_badge(state.state, health_of(run))
        with st.container(width=330, gap=None):
            st.page_link(RUNS, label=bold(run_title(record)), query_params={addresses.RUN: run.id})
            st.caption(joined(" · ", (run.id, when(record.created_at))))
        st.caption(joined(" · ", map(say, run_in_short(run, run.state()))))
