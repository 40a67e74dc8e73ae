"""What a person can do with a run that has not ended: start, move or cancel a queued one, save, stop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import streamlit as st

from lora_backend.errors import FlightdeckError
from lora_backend.escaping import visible
from lora_backend.formats import size
from lora_backend.hardware.inventory import read_gpus
from lora_backend.i18n import N_
from lora_backend.launching.requeue import move_run
from lora_backend.planning.verdict import Verdict
from lora_backend.preflight.placement import TightError
from lora_backend.runs.processes.queue import start, waiting_for
from lora_backend.runs.processes.waiting import was_queued_here
from lora_backend.runs.record.run_store import RunStore
from lora_backend.runs.record.states import AFTER_TRAINING, WITH_STEPS, RunState
from lora_backend.runs.record.transitions import request_stop
from lora_backend.views.queue_view import expected_messages, waiting_messages
from pages.parts.run import session
from pages.parts.run.checkpoints import save_button
from pages.parts.run.table import history
from pages.parts.shell.failing import safely, tell
from pages.parts.shell.language import explain, say, sentences, t, t_plain
from pages.parts.shell.services import browser_policy, installation
from pages.parts.widgets.tracing import trace_within


def run_actions(run: RunStore, state: RunState) -> None:
    """The buttons that make sense now.

    Always two places, filled or not: when the run ends the browser takes the old buttons away as the new page comes,
    and not only when all of it is there.
    """
    first, second = st.empty(), st.empty()
    if state.state == "queued":
        with second:
            if was_queued_here(run, installation().workspace):
                _button(N_("Start anyway"), "rocket_launch", "start_queued", lambda: _start_anyway(run))
        with first:
            _button(N_("Remove from queue"), "cancel", "cancel_run", lambda: request_stop(run))
    elif state.state in ("starting", "running"):
        if state.state == "running" and state.stage in WITH_STEPS:
            with second:
                save_button(run)
        if label := _what_a_stop_does(run, state):
            with first:
                _button(label, "stop_circle", "stop_run", lambda: request_stop(run), is_primary=True)


def _what_a_stop_does(run: RunStore, state: RunState) -> str | None:
    """On the button; None where the run ends by itself and nothing is left to stop."""
    if state.stage in WITH_STEPS:
        return N_("Save and stop")
    if state.stage not in AFTER_TRAINING:
        return N_("Stop")
    return N_("Skip the remaining answers") if run.config_as_changed().get("questions") else None


def what_it_waits_for(run: RunStore) -> None:
    """Who has the devices of a queued run, who came before it, and when it is expected to start and end."""
    here = installation()
    waiting = waiting_messages(waiting_for(run, here.workspace))
    expected = expected_messages(here.workspace, history(str(here.runs)).rows(), here.clock())
    st.info(sentences(map(say, [*waiting, *expected.get(run.id, [])])), icon=":material/schedule:")


def other_gpus(run: RunStore) -> None:
    """For a queued run on a machine with several GPUs: choose others, planned before it waits for them."""
    gpus = {gpu.uuid: gpu for gpu in read_gpus().gpus}
    if len(gpus) < 2:
        return
    with st.expander(t(N_("Move to other GPUs")), icon=":material/swap_horiz:"):
        now = [uuid for uuid in run.read_attempt().gpus if uuid in gpus]
        chosen = st.multiselect(
            t(N_("GPUs, in the order in which the run numbers them")),
            list(gpus),
            now,
            key=f"gpus-{run.id}",
            placeholder=t(N_("one or several")),
            format_func=lambda uuid: visible(
                t_plain(N_("{name}, {free} free"), name=gpus[uuid].name, free=size(gpus[uuid].free_bytes))
                + f" · {uuid[:12]}"
            ),
        )
        anyway = st.checkbox(t(N_("Even if its plan does not fit")), key=f"gpus-anyway-{run.id}")
        known = st.session_state.get(session.MOVE_IN_DOUBT)
        asked = known is not None and known[:2] == (run.id, chosen)
        if asked:
            st.warning(say(known[2]), icon=":material/memory_alt:")
        with st.container(horizontal=True):
            pressed = st.button(t(N_("Plan and move")), key="move_run", disabled=not chosen or chosen == now)
            confirmed = asked and st.button(t(N_("Move anyway")), icon=":material/swap_horiz:", key="move_anyway")
        if not (pressed or confirmed):
            return
        with st.status(t(N_("Planning what each device will hold …")), expanded=True) as status:
            try:
                accepts: Verdict = "over" if anyway else "tight" if confirmed else "fits"
                move_run(run, installation(), browser_policy(), trace_within(status), chosen, accepts=accepts)
            except TightError as error:
                st.session_state[session.MOVE_IN_DOUBT] = (run.id, chosen, error.message)
                st.rerun()
            except (FlightdeckError, OSError) as error:
                status.update(label=t(N_("It waits for the same GPUs as before.")), state="error", expanded=True)
                st.error(explain(error), icon=":material/error:")
                return
    st.rerun()


def _start_anyway(run: RunStore) -> None:
    start(run, installation().workspace, anyway=True)


def _button(label: str, icon: str, key: str, act: Callable[[], object], *, is_primary: bool = False) -> None:
    kind: Literal["primary", "secondary"] = "primary" if is_primary else "secondary"
    st.button(t(label), icon=f":material/{icon}:", key=key, on_click=safely(_do), args=(act,), type=kind)


def _do(act: Callable[[], object]) -> None:
    try:
        act()
    except (FlightdeckError, OSError) as error:
        tell(explain(error))
