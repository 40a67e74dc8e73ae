"""Questions of the tab that truncates to the torch process: the page goes on while one is under way, and finds it again."""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Mapping
from threading import Lock
from typing import Any

import streamlit as st

from lora_backend.i18n import N_
from lora_backend.worker_client import Request
from pages.parts.shell.failing import safely, sheltered
from pages.parts.shell.language import say, t
from pages.parts.shell.services import worker

TICK_S = 0.5
MOST_KEPT = 50


class Questions:
    """Those of all sessions of one dashboard, so that a page that is loaded anew finds its answer."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._requests: OrderedDict[str, Request] = OrderedDict()

    def find(self, key: str) -> Request | None:
        """What was asked under this key, answered or under way."""
        with self._lock:
            return self._requests.get(key)

    def ask(self, key: str, method: str, params: Mapping[str, Any]) -> Request:
        """Put a question, unless it was put before."""
        with self._lock:
            if key not in self._requests:
                self._requests[key] = worker().submit(method, dict(params))
                done = [old for old, request in self._requests.items() if request.done.is_set()]
                for old in done[: max(len(self._requests) - MOST_KEPT, 0)]:
                    del self._requests[old]
            return self._requests[key]

    def drop(self, key: str) -> None:
        """Forget a question; one that is under way is cancelled."""
        with self._lock:
            request = self._requests.pop(key, None)
        if request is not None and not request.done.is_set():
            worker().cancel(request)


@st.cache_resource(show_spinner=False)
def questions() -> Questions:
    """The questions of this dashboard."""
    return Questions()


def key_of(method: str, params: Mapping[str, Any], tensors: str | None) -> str:
    """The same for the same question about the same tensors."""
    said = json.dumps([method, dict(params), tensors], sort_keys=True, default=str)
    return hashlib.sha256(said.encode()).hexdigest()[:24]


def answer_of(request: Request) -> Any:
    """What was answered; None while nothing is. Raises the error that is the answer."""
    if not request.done.is_set():
        return None
    if request.error is not None:
        raise request.error.with_traceback(None)
    return request.result


@st.fragment(run_every=TICK_S)
@sheltered()
def show_progress(key: str) -> None:
    """How far a question is, and a button that cancels it; the page is shown again when the answer is there."""
    request = questions().find(key)
    if request is None or request.done.is_set():
        st.rerun()
    said = say(request.progress) or t(N_("Starting torch and PEFT"))
    with st.container(horizontal=True, vertical_alignment="center"):
        with st.container(width="stretch"):
            st.progress(min(request.fraction, 1.0), said)
        st.button(
            t(N_("Cancel")),
            icon=":material/close:",
            key=f"drop-{key}",
            on_click=safely(questions().drop),
            args=(key,),
        )
