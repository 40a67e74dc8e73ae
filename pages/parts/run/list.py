"""Runs in a list: one that goes on with its progress, one that waits with what it waits for, one that has ended with its result."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from lora_backend.errors import RunError
from lora_backend.formats import when
from lora_backend.i18n import Message
from lora_backend.runs.history.loss_health import health_of
from lora_backend.runs.history.run_table import RunRow
from lora_backend.runs.processes.queue import waiting_for
from lora_backend.runs.record.run_store import RunStore
from lora_backend.views.queue_view import waiting_messages
from lora_backend.views.result_view import short_result
from lora_backend.views.run_view import going_in_short, job_title, run_title
from pages.parts.run.curves import run_columns
from pages.parts.shell import addresses
from pages.parts.shell.language import say, sentences
from pages.parts.shell.markdown import Markdown, bold, escape, joined
from pages.parts.shell.navigation import RUNS
from pages.parts.shell.services import installation
from pages.parts.widgets.status_badge import status_badge


def running_row(run: RunStore) -> None:
    """A run that goes on; one whose folder has just gone is left out."""
    try:
        record = run.read_record()
    except RunError:
        return
    state = run.state()
    with st.container(border=True, gap="small", key=f"run_row-{run.id}"):
        title = run_title(record)
        name = bold(title) if record.kind == "train" else bold(say(job_title(record.kind, title)))
        with st.container(horizontal=True, vertical_alignment="center"):
            _link(run.id, name)
            status_badge(state.state, health_of(run))
        parts = [say(part) for part in going_in_short(run, state, run_columns(run), installation().clock())]
        share = state.step / state.total_steps if state.total_steps and state.fraction is None else state.fraction
        st.progress(min(share or 0.0, 1.0), joined(" · ", parts))


def waiting_row(place: int, run: RunStore, title: str, expected: Sequence[Message]) -> None:
    """A run in the queue; `place`: counted from 1, `expected`: when it starts and ends. Else what it waits for; its page says both."""
    said = expected or waiting_messages(waiting_for(run, installation().workspace))[1:]
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.markdown(escape(f"{place}."), width="content")
        _link(run.id, bold(title))
        st.caption(sentences(map(say, said)))


def result_row(row: RunRow) -> None:
    """A run that has ended: name, state, and at the other end what came of it and when."""
    run = RunStore(installation().runs / row.id)
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute", gap="small"):
        with st.container(horizontal=True, vertical_alignment="center", gap="small", width="content"):
            _link(row.id, bold(row.title) if row.kind == "train" else bold(say(job_title(row.kind, row.title))))
            status_badge(row.state.state, row.health)
        said = [say(part) for part in short_result(run, row.state)]
        st.caption(joined(" · ", [*said, escape(when(row.state.ended_at or row.created_at))]), width="content")


def _link(run_id: str, label: Markdown) -> None:
    st.page_link(RUNS, label=label, query_params={addresses.RUN: run_id})
