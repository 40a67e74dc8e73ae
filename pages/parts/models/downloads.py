"""The downloads that go on or were interrupted: how far each is, with pause, resume and cancel."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from lora_backend.i18n import N_
from lora_backend.runs.processes.recovery import recover
from lora_backend.runs.record.job_documents import DownloadRequest
from lora_backend.runs.record.run_store import RunStore, list_runs
from lora_backend.runs.record.states import RunState
from lora_backend.views.state_view import stage_parts
from pages.parts.job.downloaded import asked_of, download_buttons, finish_cancelled, held_bytes_of, say_of_partials
from pages.parts.models import session
from pages.parts.shell import addresses
from pages.parts.shell.failing import sheltered, show_notices
from pages.parts.shell.language import say, sentences, t
from pages.parts.shell.markdown import bold, joined
from pages.parts.shell.navigation import RUNS
from pages.parts.shell.services import installation
from pages.parts.widgets.adapters_listed import forget_adapters
from pages.parts.widgets.models_here import forget_models
from pages.parts.widgets.status_badge import status_badge

TICK_S = 1
Download = tuple[RunStore, DownloadRequest]


def show_downloads() -> None:
    """Nothing where none goes on and none was interrupted.

    Comes before what is here is listed: where one has ended since, that is looked for anew.
    """
    found = [
        (run, request, recover(run)) for run, request in _newest_of_each()
    ]  # once: one that ends meanwhile is live
    live = [run.id for run, _, state in found if not state.has_ended]
    if {*st.session_state.get(session.LIVE_DOWNLOADS, ())} - {*live}:
        forget_models()
        forget_adapters()
    st.session_state[session.LIVE_DOWNLOADS] = live
    for one in found:
        finish_cancelled(*one)
    show_notices()
    shown = [run.id for run, request, state in found if not _is_over(request, state)]
    if shown:
        st.header(t(N_("Downloads")), anchor=False)
        st.fragment(_rows, run_every=TICK_S if live else None)(shown, live)


@sheltered()
def _rows(ids: Sequence[str], live: Sequence[str]) -> None:
    runs = [RunStore(installation().runs / run_id) for run_id in ids]
    states = {run.id: recover(run) for run in runs}
    if any(states[run_id].has_ended for run_id in live):
        st.rerun()
    show_notices()
    for run in runs:
        request = asked_of(run)
        if request is not None:
            _row(run, request, states[run.id])


def _row(run: RunStore, request: DownloadRequest, state: RunState) -> None:
    with st.container(border=True, key=f"download-{run.id}"):
        with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
            with st.container(horizontal=True, vertical_alignment="center", width="content"):
                status_badge(state.state)
                st.page_link(RUNS, label=bold(request.repo_id), query_params={addresses.RUN: run.id})
            with st.container(horizontal=True, width="content"):
                download_buttons(run, request, state)
        if not state.has_ended:
            st.progress(min(max(state.fraction or 0.0, 0.0), 1.0), joined(" · ", map(say, stage_parts(state))))
        elif state.message and state.state != "stopped":
            st.error(sentences([say(state.message), say(state.remedy)]), icon=":material/error:")
        say_of_partials(request.repo_id, state)


def _newest_of_each() -> list[Download]:
    """The newest download of each repository."""
    found: dict[str, Download] = {}
    for run in list_runs(installation().runs):
        request = asked_of(run)
        if request is not None:
            found.setdefault(request.repo_id, (run, request))
    return list(found.values())


def _is_over(request: DownloadRequest, state: RunState) -> bool:
    """Whether nothing is left to be done with it here: it is whole, or was given up."""
    return state.state == "finished" or (state.state == "stopped" and not held_bytes_of(request.repo_id))
