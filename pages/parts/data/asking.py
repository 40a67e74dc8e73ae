"""Questions of the data page to the torch process: put once, answered at once where they were before, with a way out.

The page goes on while one is under way: a fragment says how far it is, and shows the page again when the answer is there.
"""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from threading import Lock
from typing import Any

import streamlit as st

from lora_backend.errors import FlightdeckError
from lora_backend.i18n import N_
from lora_backend.worker_client import Request
from pages.parts.data import session
from pages.parts.shell.failing import safely, sheltered
from pages.parts.shell.language import say, t
from pages.parts.shell.services import worker

TICK_S = 0.5
MOST_KEPT = 200
"""Answers that are kept for all sessions; counts are also kept on disk, by whoever makes them."""


class Asked:
    """Questions of all sessions of one dashboard: those under way, and the last answers."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._requests: dict[str, Request] = {}
        self._answers: OrderedDict[str, Any] = OrderedDict()

    def answer(self, key: str) -> Any:
        """What was answered; None while nothing was. Raises the error that was the answer."""
        with self._lock:
            request = self._requests.get(key)
            if request is not None and request.done.is_set():
                del self._requests[key]
                self._answers[key] = request.error or request.result
                while len(self._answers) > MOST_KEPT:
                    self._answers.popitem(last=False)
            found = self._answers.get(key)
        if isinstance(found, FlightdeckError):
            raise found.with_traceback(None)
        return found

    def forget(self, key: str) -> None:
        """Have a question that failed be put again."""
        with self._lock:
            self._answers.pop(key, None)

    def request(self, key: str) -> Request | None:
        """What is under way, or done and not looked at yet."""
        return self._requests.get(key)

    def ask(self, key: str, method: str, params: dict[str, Any]) -> Request:
        """Put a question, unless it is under way."""
        with self._lock:
            if key not in self._requests:
                self._requests[key] = worker().submit(method, params)
            return self._requests[key]

    def drop(self, key: str) -> None:
        """Cancel a question."""
        with self._lock:
            request = self._requests.pop(key, None)
        if request is not None:
            worker().cancel(request)


@st.cache_resource(show_spinner=False)
def asked() -> Asked:
    """The questions of this dashboard."""
    return Asked()


def answer_to(method: str, params: Mapping[str, Any], files: tuple[Path, ...]) -> tuple[str, Any]:
    """The key of a question and its answer; None while it is under way, or was cancelled. Raises `FlightdeckError`.

    `files`: what the answer is read from, so that a changed file is asked about anew.
    """
    key = key_of(method, params, files)
    found = asked().answer(key)
    if found is None and key not in st.session_state.get(session.DROPPED, ()):
        asked().ask(key, method, dict(params))
    return key, found


def is_dropped(key: str) -> bool:
    """Whether the reader cancelled that question."""
    return key in st.session_state.get(session.DROPPED, ())


@st.fragment(run_every=TICK_S)
@sheltered()
def show_progress(key: str, waiting: str | None = None) -> None:
    """How far a question is, and a button that cancels it; the page is shown again when the answer is there.

    `waiting`: only this sentence, of a question that nobody would cancel.
    """
    request = asked().request(key)
    if request is None or request.done.is_set():
        st.rerun()
    if waiting is not None:
        st.caption(t(waiting))
        return
    said = say(request.progress) or t(N_("Starting the process that reads tokenizers"))
    with st.container(horizontal=True, vertical_alignment="center"):
        with st.container(width="stretch"):
            st.progress(min(request.fraction, 1.0), said)
        st.button(t(N_("Cancel")), icon=":material/close:", key=f"cancel-{key}", on_click=safely(_drop), args=(key,))


def offer_again(key: str, error: FlightdeckError | None = None) -> None:
    """A button that puts a question again which was cancelled, or whose process ended."""
    if error is not None:
        st.warning(say(error.message), icon=":material/warning:")
    st.button(
        t(N_("Try again")) if error is not None else t(N_("Count the tokens")),
        icon=":material/refresh:",
        key=f"again-{key}",
        on_click=safely(_again),
        args=(key,),
    )


def _drop(key: str) -> None:
    st.session_state[session.DROPPED] = {*st.session_state.get(session.DROPPED, ()), key}
    asked().drop(key)


def _again(key: str) -> None:
    asked().forget(key)
    st.session_state[session.DROPPED] = {*st.session_state.get(session.DROPPED, ())} - {key}


def key_of(method: str, params: Mapping[str, Any], files: tuple[Path, ...]) -> str:
    """The same for the same question while the files are the same."""
    said = [method, dict(params), *(_stamp(path) for path in files)]
    return hashlib.sha256(json.dumps(said, sort_keys=True, default=str).encode()).hexdigest()[:24]


def _stamp(path: Path) -> list[int]:
    try:
        found = path.stat()
    except OSError:
        return []
    return [found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns]
