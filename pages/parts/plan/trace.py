"""Profiles for the plan page: traced by the torch process, with progress and a way out; or only those that are known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from lora_backend.config.schema import TrainingConfig
from lora_backend.errors import WorkerError
from lora_backend.i18n import N_
from lora_backend.planning.cost.profile import Profile
from lora_backend.planning.cost.trace_settings import TraceSettings
from lora_backend.planning.profile_store import model_key
from lora_backend.worker_client import Request
from pages.parts.plan import session
from pages.parts.shell.failing import safely
from pages.parts.shell.language import say, t
from pages.parts.shell.services import worker

DEADLINE_S = 180.0
TICK_S = 0.2


@st.cache_resource(show_spinner=False)
def _under_way() -> dict[str, Request]:
    """Traces that the torch process is at, so that a page that runs again waits for the same one."""
    return {}


def trace(facts: Mapping[str, Any], config: TrainingConfig) -> Profile:
    """Ask the torch process, and show how far it is. Raises `WorkerError`, also where the reader cancelled this trace."""
    key = _key(facts, config)
    if st.session_state.get(session.TRACE_DROPPED) == key:
        raise WorkerError(N_("The trace was cancelled, so there are no figures for these settings yet."))
    request = _under_way().get(key)
    if request is None or (request.done.is_set() and request.error is not None):
        question = {"facts": dict(facts), "config": config.model_dump()}
        request = _under_way()[key] = worker().submit("profile", question)
    place = st.empty()
    with place.container(border=True):
        bar = st.progress(0.0, t(N_("Starting torch and PEFT")))
        st.caption(t(N_("The model's training step is traced once for these settings and kept; no weights are read.")))
        # By its request: the same settings may be traced twice in one run of the page, for the limits too.
        button = f"cancel-{request.id}"
        st.button(t(N_("Cancel")), icon=":material/close:", key=button, on_click=safely(_drop), args=(key,))
    waited_s = 0.0
    while not request.done.wait(TICK_S):
        waited_s += TICK_S
        # Each update is a moment at which a click of the reader is heard.
        said = say(request.progress) or t(N_("Starting torch and PEFT"))
        bar.progress(min(request.fraction, 1.0), t(N_("{what} · {seconds} s"), what=said, seconds=int(waited_s)))
        if waited_s >= DEADLINE_S:
            worker().cancel(request)
    _under_way().pop(key, None)
    place.empty()
    if request.error is not None:
        raise request.error
    return Profile.from_json(request.result)


def offer_again(where: str = "plan") -> None:
    """After a trace that was cancelled or whose process ended: a button that asks for it again. `where`: the part of the
    page, for there may be several."""
    is_cancelled = bool(st.session_state.get(session.TRACE_DROPPED))
    st.button(
        t(N_("Trace it anyway")) if is_cancelled else t(N_("Try again")),
        icon=":material/refresh:",
        key=f"trace_again_{where}",
        on_click=safely(lambda: st.session_state.pop(session.TRACE_DROPPED, None)),
    )


def _drop(key: str) -> None:
    request = _under_way().pop(key, None)
    st.session_state[session.TRACE_DROPPED] = key
    if request is not None:
        worker().cancel(request)


def _key(facts: Mapping[str, Any], config: TrainingConfig) -> str:
    # A window and a tile of one token: rows of any length are then told apart, which only makes more keys.
    settings = TraceSettings.of(config, config.precision, (config.max_length,), 1)
    return model_key({**facts, "settings": settings.to_json()})
