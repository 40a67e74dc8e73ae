"""Launch a draft: plan it, ask where it does not fit, start it once."""

from __future__ import annotations

import streamlit as st

from lora_backend.config.drafts import Draft
from lora_backend.errors import FlightdeckError, PlanError
from lora_backend.i18n import N_
from lora_backend.planning.advice import Advice
from lora_backend.planning.report import advice_text
from lora_backend.preflight.launch import launch_from_browser
from lora_backend.preflight.placement import MAP_ANEW, DoesNotFitError
from pages.parts import state_keys
from pages.parts.config_edit import apply_fix, set_values
from pages.parts.failing import safely
from pages.parts.language import explain, say, t
from pages.parts.markdown import escape
from pages.parts.navigation import RUNS
from pages.parts.services import settings
from pages.parts.tracing import trace_within


def launch_draft(draft: Draft, text: str, launches: int, *, anyway: bool = False) -> None:
    """Start a run from `text` and show it; what stands in the way is said on the page."""
    st.session_state.pop(state_keys.DOES_NOT_FIT, None)  # it may be different now
    with st.status(t(N_("Planning what each device will hold …")), expanded=True) as status:
        try:
            run_id = draft.launch_once(
                launches, lambda: launch_from_browser(text, settings(), trace_within(status), anyway=anyway).id
            )
        except PlanError as error:
            st.session_state[state_keys.DOES_NOT_FIT] = (draft.id, text, error)
            label = N_("It does not fit.") if isinstance(error, DoesNotFitError) else N_("Not started")
            status.update(label=t(label), state="error", expanded=False)  # why stands below, with what can be done
            return
        except (FlightdeckError, OSError) as error:
            status.update(label=t(N_("Not started")), state="error", expanded=True)
            st.error(explain(error), icon=":material/error:")
            return
    st.switch_page(RUNS, query_params={state_keys.RUN: run_id})


def ask_where_it_does_not_fit(draft: Draft, text: str, launches: int) -> None:
    """What a refused launch leaves: mend it with one click, or, where it is only too large, start all the same."""
    refused = st.session_state.get(state_keys.DOES_NOT_FIT)
    if refused is None or refused[:2] != (draft.id, text):
        return
    error: PlanError = refused[2]
    if not isinstance(error, DoesNotFitError):
        _offer_a_new_map(draft, error)
        return
    with st.container(border=True):
        st.warning(say(error.message), icon=":material/memory_alt:")
        remedies = [remedy for remedy in error.advice if remedy.change]
        for remedy in remedies[:3]:
            st.caption(escape(advice_text(remedy)))
        with st.container(horizontal=True):
            if remedies:
                st.button(
                    t(N_("Change it: {change}"), change=change_in_words(remedies[0])),
                    type="primary",
                    icon=":material/build:",
                    key="apply_remedy",
                    on_click=safely(_apply),
                    args=(draft, remedies[0]),
                )
            anyway = st.button(t(N_("Start anyway")), icon=":material/rocket_launch:", key="start_anyway")
    if anyway:
        launch_draft(draft, text, launches, anyway=True)
        ask_where_it_does_not_fit(draft, text, launches)  # a GPU may have gone meanwhile


def _offer_a_new_map(draft: Draft, error: PlanError) -> None:
    """For a map that names a GPU which is gone."""
    with st.container(border=True):
        st.error(say(error.message), icon=":material/error:")
        st.button(
            t(N_("Take the best map for these GPUs")), type="primary", icon=":material/build:", key="map_anew",
            on_click=safely(_map_anew), args=(draft,),
        )  # fmt: skip


def change_in_words(remedy: Advice) -> str:
    """`gradient_checkpointing: true`."""
    return ", ".join(
        f"{key}: {str(value).lower() if isinstance(value, bool) else value}" for key, value in remedy.change.items()
    )


def _map_anew(draft: Draft) -> None:
    apply_fix(draft, MAP_ANEW)
    st.session_state.pop(state_keys.DOES_NOT_FIT, None)


def _apply(draft: Draft, remedy: Advice) -> None:
    set_values(draft, remedy.change)
    st.session_state.pop(state_keys.DOES_NOT_FIT, None)
