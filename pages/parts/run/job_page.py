"""A run that trains nothing on the screen: an evaluation, an export, a download."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from lora_backend.errors import FlightdeckError
from lora_backend.escaping import visible_lines
from lora_backend.formats import duration
from lora_backend.i18n import N_
from lora_backend.launching.jobs import restart_job
from lora_backend.runs.processes.recovery import recover
from lora_backend.runs.record.documents import Kind
from lora_backend.runs.record.run_store import RunStore, open_run
from lora_backend.runs.record.states import RunState
from lora_backend.runs.record.transitions import request_stop
from lora_backend.views.run_view import run_title
from lora_backend.views.state_view import stage_parts, stopping_messages
from pages.parts.job.downloaded import show_download
from pages.parts.job.evaluation import show_evaluation
from pages.parts.job.exported import show_export
from pages.parts.run.actions import what_it_waits_for
from pages.parts.run.alerts import say_that_it_ended
from pages.parts.run.log import run_log
from pages.parts.shell import addresses
from pages.parts.shell.failing import safely, sheltered, show_notices, tell
from pages.parts.shell.language import explain, say, sentences, t
from pages.parts.shell.markdown import Markdown, joined
from pages.parts.shell.navigation import RUNS
from pages.parts.shell.services import installation
from pages.parts.widgets.status_badge import status_badge

TICK_S = 1
RESULTS: dict[Kind, Callable[[RunStore], None]] = {
    "evaluate": show_evaluation,
    "export": show_export,
    "download": show_download,
}
"""What came of it, as soon as there is something."""
STOP_LABELS: dict[Kind, str] = {"evaluate": N_("Stop"), "export": N_("Cancel"), "download": N_("Pause")}
AGAIN_LABELS: dict[Kind, str] = {"evaluate": N_("Run again"), "export": N_("Export again"), "download": N_("Continue")}


def job_page(run: RunStore) -> None:
    """One job: made anew every second while it goes on."""
    run_every = None if recover(run).has_ended else TICK_S
    st.fragment(_job, run_every=run_every)(run, run_every is not None)


@sheltered()
def _job(run: RunStore, is_live: bool) -> None:
    state = recover(run)
    if not run.run_json.exists():
        st.rerun()
    if is_live and state.has_ended:
        # Before anything of its end is drawn: a button to download with would be another one a moment later, and a click
        # on the first come to nothing.
        st.rerun()
    show_notices()
    kind = run.read_record().kind
    say_that_it_ended(run, state)
    with st.container():
        _head(run, kind, state)
    if state.state == "finished" or kind == "download":
        RESULTS[kind](run)
    with st.expander(t(N_("Log")), icon=":material/article:", expanded=state.state in ("failed", "lost")):
        run_log(run)


def _head(run: RunStore, kind: Kind, state: RunState) -> None:
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        with st.container(horizontal=True, vertical_alignment="center", width="content"):
            status_badge(state.state)
            if state.has_ended and state.started_at and state.ended_at:
                st.caption(t(N_("took {time}"), time=duration(state.ended_at - state.started_at)))
        with st.container(horizontal=True, width="content"):
            _actions(run, kind, state)
    if state.state == "queued":
        what_it_waits_for(run)
    elif state.state == "stopping":
        st.info(sentences(map(say, stopping_messages(run))), icon=":material/hourglass_bottom:")
    elif not state.has_ended:
        st.progress(min(state.fraction or 0.0, 1.0), joined(" · ", [*map(say, stage_parts(state)), *_left(state)]))
    if state.message:
        show = st.info if state.state in ("stopped", "finished") else st.error
        show(sentences([say(state.message), *([say(state.remedy)] if state.remedy else [])]))
    ended = run.read_exit()
    if state.state in ("failed", "lost") and ended and ended.log and not state.message:
        st.code(visible_lines("\n".join(ended.log)), language=None, wrap_lines=True)
    _of_run(run)


def _left(state: RunState) -> list[Markdown]:
    return [] if state.eta_s is None else [t(N_("{time} left"), time=duration(state.eta_s))]


def _actions(run: RunStore, kind: Kind, state: RunState) -> None:
    if not state.has_ended:
        label = N_("Remove from queue") if state.state == "queued" else STOP_LABELS[kind]
        st.button(
            t(label),
            icon=":material/stop_circle:" if kind != "download" else ":material/pause_circle:",
            key="stop_job",
            disabled=state.state == "stopping",
            on_click=safely(_stop),
            args=(run,),
        )
    elif (kind, state.state) != ("download", "finished"):
        _again(run, kind)


def _again(run: RunStore, kind: Kind) -> None:
    if not st.button(t(AGAIN_LABELS[kind]), icon=":material/replay:", key="again_job"):
        return
    try:
        again = restart_job(run, installation())
    except (FlightdeckError, OSError) as error:
        st.error(explain(error), icon=":material/error:")
    else:
        st.switch_page(RUNS, query_params={addresses.RUN: again.id})


def _stop(run: RunStore) -> None:
    try:
        request_stop(run)
    except (FlightdeckError, OSError) as error:
        tell(explain(error))


def _of_run(run: RunStore) -> None:
    """The way back to the run whose adapter it is."""
    run_id = run.read_record().config.get("of_run")
    if not isinstance(run_id, str):
        return
    try:
        title = run_title(open_run(installation().runs, run_id).read_record())
    except FlightdeckError:
        return
    label = t(N_("Back to {run}"), run=title)
    st.page_link(RUNS, label=label, icon=":material/arrow_back:", query_params={addresses.RUN: run_id})
