"""A run gone on with from its page: what is in doubt is asked, and confirmed with another press."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import streamlit as st

from lora_backend.errors import DataChangedError, FlightdeckError
from lora_backend.i18n import N_, Message
from lora_backend.launching.meeting import meeting_again
from lora_backend.launching.requests import StartOptions
from lora_backend.launching.resume import Resumption, prepare_resume, resume_run
from lora_backend.preflight.placement import PlanDoubtError
from lora_backend.runs.record.peer_documents import MachineMeeting
from lora_backend.runs.record.run_store import RunStore
from lora_backend.runs.record.states import RunState
from pages.parts.run import session
from pages.parts.shell import addresses
from pages.parts.shell.language import explain, t
from pages.parts.shell.navigation import RUNS
from pages.parts.shell.services import browser_policy, installation
from pages.parts.widgets.tracing import count_within, trace_within


@dataclass(frozen=True)
class Refused:
    """A resume that waits to be confirmed."""

    run_id: str
    sentence: Message | None
    changes: dict[str, Any]
    confirm: dict[str, Any]
    """How `resume_run` is told that it is."""
    is_for_data: bool


def refused_of(run: RunStore, state: RunState) -> Refused | None:
    """What was refused a moment ago; of a run that ended for its changed data, what its page says anyhow."""
    known = st.session_state.get(session.RESUME_REFUSED)
    if isinstance(known, Refused) and known.run_id == run.id:
        return known
    if state.cause == DataChangedError.code:
        return Refused(run.id, None, {}, {"accept_changed_data": True}, is_for_data=True)
    return None


def _meeting(asked: Resumption) -> MachineMeeting | None:
    """Where the machines of a run meet again; None where one goes on alone."""
    if asked.config.config.num_nodes < 2:
        return None
    known = st.session_state.get(session.ENDPOINT)
    endpoint = known[1] if known is not None and known[0] == asked.run.id else None
    return meeting_again(asked.run, installation(), endpoint, None)


def prepared(run: RunStore, changes: Mapping[str, Any] | None) -> Resumption:
    """What these changes would do to it; raises as `prepare_resume`."""
    return prepare_resume(run, installation(), browser_policy(), changes)


def _ask(run: RunStore, error: FlightdeckError, changes: Mapping[str, Any] | None, confirm: dict[str, Any]) -> None:
    """Have the resume confirmed: with `confirm` it is not refused for this again."""
    refused = Refused(run.id, error.message, dict(changes or {}), confirm, isinstance(error, DataChangedError))
    st.session_state[session.RESUME_REFUSED] = refused
    st.rerun()


def resume(run: RunStore, changes: Mapping[str, Any] | None = None, **confirmed: Any) -> None:
    """Go on with the run, and to its page; what is in doubt is asked, what is refused is said. `confirmed`: also
    `from_step`, the checkpoint to go on from."""
    with st.status(t(N_("Planning what each device will hold …")), expanded=True) as status:
        try:
            asked = prepared(run, changes)
            resume_run(
                asked,
                trace_within(status),
                StartOptions(
                    accepts=confirmed.get("accepts", "fits"),
                    meeting=_meeting(asked),
                    from_step=confirmed.get("from_step"),
                ),
                accept_changed_data=confirmed.get("accept_changed_data", False),
                count=count_within(status),
            )
        except PlanDoubtError as error:
            _ask(run, error, changes, {**confirmed, "accepts": error.verdict})
        except DataChangedError as error:
            _ask(run, error, changes, {**confirmed, "accept_changed_data": True})
        except (FlightdeckError, OSError) as error:
            status.update(label=t(N_("Not started")), state="error", expanded=True)
            st.error(explain(error), icon=":material/error:")
            return
    for key in (session.RESUME_REFUSED, session.REMEDIES):
        st.session_state.pop(key, None)
    st.switch_page(RUNS, query_params={addresses.RUN: run.id})
