"""What a person can do with a run in its state: cancel or start a queued one, stop or save, resume."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from lora_backend.errors import FlightdeckError
from lora_backend.i18n import N_
from lora_backend.preflight.placement import DoesNotFitError
from lora_backend.preflight.resume import resume_run
from lora_backend.runs.folder import RunFolder
from lora_backend.runs.queue import start, waiting_for
from lora_backend.runs.states import RunState
from pages.parts import state_keys
from pages.parts.formats import size
from pages.parts.language import say, t
from pages.parts.navigation import RUNS
from pages.parts.services import settings
from pages.parts.tracing import trace_within


def run_actions(run: RunFolder, state: RunState) -> None:
    """The buttons that make sense now."""
    if state.state == "queued":
        _button(N_("Start anyway"), "rocket_launch", "start_queued", lambda: _start_anyway(run))
        _button(N_("Take out of the queue"), "cancel", "cancel_run", run.request_stop)
    elif state.state in ("starting", "running"):
        if state.state == "running":
            _button(N_("Save a checkpoint now"), "save", "save_run", run.request_save)
        _button(N_("Stop after a checkpoint"), "stop_circle", "stop_run", run.request_stop)


def what_it_waits_for(run: RunFolder) -> None:
    """Who has the devices of a queued run, and who came before it."""
    waiting = waiting_for(run, settings().workspace)
    parts = []
    if waiting.holders:
        parts.append(
            t(N_("{runs} has its device."), runs=", ".join(sorted({holder.run for holder in waiting.holders})))
        )
    if waiting.ahead:
        parts.append(
            t(N_("{count} runs came before it: {runs}."), count=len(waiting.ahead), runs=", ".join(waiting.ahead))
        )
    for uuid, short_bytes in (waiting.short_bytes or {}).items():
        parts.append(t(N_("{size} more must become free on {gpu}."), size=size(short_bytes), gpu=uuid))
    if waiting.missing:
        parts.append(t(N_("The driver does not show {gpus}."), gpus=", ".join(waiting.missing)))
    st.info(" ".join([t(N_("It starts by itself when its turn comes.")), *parts]), icon=":material/schedule:")


def resume_button(run: RunFolder, state: RunState) -> None:
    """For a run that has ended before it was done: go on from the newest whole checkpoint."""
    if state.state not in ("stopped", "failed", "lost") or not run.read_run().get("argv"):
        return
    refused = st.session_state.get(state_keys.RESUME_REFUSED)
    asks = refused is not None and refused[0] == run.id
    with st.container(horizontal=True):
        resume = st.button(t(N_("Resume")), icon=":material/resume:", key="resume_run", type="primary")
        anyway = asks and st.button(t(N_("Start anyway")), icon=":material/rocket_launch:", key="resume_anyway")
    if asks:
        st.warning(refused[1], icon=":material/memory_alt:")
    if not (resume or anyway):
        return
    with st.status(t(N_("Planning what each device will hold …")), expanded=True) as status:
        try:
            resume_run(run, settings(), trace_within(status), anyway=bool(anyway))
        except DoesNotFitError as error:
            st.session_state[state_keys.RESUME_REFUSED] = (run.id, say(error.message))
            st.rerun()
        except (FlightdeckError, OSError) as error:
            status.update(label=t(N_("Not started")), state="error")
            st.error(say(error.message) if isinstance(error, FlightdeckError) else str(error), icon=":material/error:")
            return
    st.session_state.pop(state_keys.RESUME_REFUSED, None)
    st.switch_page(RUNS, query_params={state_keys.RUN: run.id})


def _start_anyway(run: RunFolder) -> None:
    start(run, settings().workspace, anyway=True)


def _button(label: str, icon: str, key: str, act: Callable[[], object]) -> None:
    st.button(t(label), icon=f":material/{icon}:", key=key, on_click=_do, args=(act,))


def _do(act: Callable[[], object]) -> None:
    try:
        act()
    except FlightdeckError as error:
        st.toast(say(error.message))
    except OSError as error:
        st.toast(str(error))
