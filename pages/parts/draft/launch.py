"""Launch a draft: plan it, ask where it does not fit or is tight, start it once."""

from __future__ import annotations

import streamlit as st

from lora_backend.config.config_text import parse_config
from lora_backend.config.drafts import Draft
from lora_backend.errors import FlightdeckError
from lora_backend.i18n import N_
from lora_backend.launching.launch import launch
from lora_backend.launching.meeting import meeting_here
from lora_backend.launching.requests import StartOptions, StartRequest
from lora_backend.planning.advice import Advice
from lora_backend.planning.verdict import Verdict
from lora_backend.preflight.data_asked import Count
from lora_backend.preflight.placement import PlanDoubtError
from lora_backend.preflight.plan_question import Trace
from lora_backend.preflight.resolve import ResolvedConfig, resolve
from lora_backend.preflight.startable import CannotStartError, judge, startable
from lora_backend.runs.record.run_store import RunStore
from lora_backend.views.plan_view import advice_text, change_text
from pages.parts.draft import session
from pages.parts.draft.edit import set_values, shown_text
from pages.parts.shell import addresses
from pages.parts.shell.failing import safely
from pages.parts.shell.language import explain, say, t
from pages.parts.shell.markdown import escape
from pages.parts.shell.navigation import RUNS
from pages.parts.shell.services import browser_policy, installation
from pages.parts.widgets.tracing import count_within, trace_within


def launch_draft(draft: Draft, launches: int, endpoint: str | None, *, accepts: Verdict = "fits") -> None:
    """Start a run from the text that is shown, and show the run; what stands in the way is said on the page. `endpoint`: of
    several machines, where the others reach this one."""
    text = shown_text(draft)
    st.session_state.pop(session.IN_DOUBT, None)  # it may be different now
    with st.status(t(N_("Planning what each device will hold …")), expanded=True) as status:
        try:
            run_id = draft.launch_once(
                launches,
                lambda: _start(text, trace_within(status), count_within(status), accepts, endpoint, draft.name()).id,
            )
        except PlanDoubtError as error:
            _ = error.advice  # traced now, while there is something to see of it
            st.session_state[session.IN_DOUBT] = (draft.id, text, error)
            st.rerun()  # the question says it, and nothing else on the page does then
        except (FlightdeckError, OSError) as error:
            if isinstance(error, CannotStartError) and _is_seen_by_now(text):
                st.rerun()  # the page says it in its place, with line and fix, and no longer that all is well
            status.update(label=t(N_("Not started")), state="error", expanded=True)
            st.error(explain(error), icon=":material/error:")
            return
    st.switch_page(RUNS, query_params={addresses.RUN: run_id})


def _start(text: str, trace: Trace, count: Count, accepts: Verdict, endpoint: str | None, name: str | None) -> RunStore:
    config = _resolved(text)
    meeting = meeting_here(installation(), endpoint) if num_nodes_of(config) > 1 else None
    return launch(StartRequest(config, StartOptions(accepts=accepts, meeting=meeting), name), trace, count)


def num_nodes_of(config: ResolvedConfig) -> int:
    """Machines that the config asks for; 1 for one that has errors."""
    return config.config.num_nodes if config.result.is_valid else 1


def _resolved(text: str) -> ResolvedConfig:
    return resolve(parse_config(text), installation(), browser_policy())


def _is_seen_by_now(text: str) -> bool:
    """Whether the check sees what the launch was refused for: planning may have built the model's modules meanwhile."""
    return startable(judge(_resolved(text))).answer is False


def has_been_refused(draft: Draft, text: str) -> bool:
    """Whether a launch of this very text was refused for its plan."""
    refused = st.session_state.get(session.IN_DOUBT)
    return refused is not None and refused[:2] == (draft.id, text)


def ask_where_it_is_in_doubt(draft: Draft, text: str, launches: int, endpoint: str | None) -> None:
    """What a launch leaves whose plan is tight or over: save memory with one click, or start all the same."""
    if not has_been_refused(draft, text):
        return
    error: PlanDoubtError = st.session_state[session.IN_DOUBT][2]
    with st.container(border=True):
        st.warning(say(error.message), icon=":material/memory_alt:")
        remedies = [remedy for remedy in error.advice if remedy.change]
        for remedy in remedies[:3]:
            st.caption(escape(advice_text(remedy)))
        with st.container(horizontal=True):
            if remedies:
                st.button(
                    t(N_("Change it: {change}"), change=change_text(remedies[0])),
                    type="primary",
                    icon=":material/build:",
                    key="apply_remedy",
                    on_click=safely(_apply),
                    args=(draft, remedies[0]),
                )
            anyway = st.button(t(N_("Start anyway")), icon=":material/rocket_launch:", key="start_anyway")
    if anyway:
        launch_draft(draft, launches, endpoint, accepts=error.verdict)


def _apply(draft: Draft, remedy: Advice) -> None:
    set_values(draft, remedy.change)
    st.session_state.pop(session.IN_DOUBT, None)
