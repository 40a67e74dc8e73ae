"""What becomes of an error that no screen expects: a sentence on the page, in the place of a page that breaks.

Of a full disk, above all: there is no button behind which something could not be written.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import ParamSpec

import streamlit as st

from lora_backend.errors import FlightdeckError
from pages.parts.shell import session
from pages.parts.shell.language import explain
from pages.parts.shell.markdown import Markdown

logger = logging.getLogger(__name__)
P = ParamSpec("P")
ICON = ":material/error:"


def safely(callback: Callable[P, object]) -> Callable[P, None]:
    """`callback` for `on_click` or `on_change`, which run before the page: what it could not do is said on the page.

    Every callback is handed over through this; an error in one would leave no page at all.
    """

    @wraps(callback)
    def called(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            callback(*args, **kwargs)
        except (FlightdeckError, OSError) as error:
            logger.warning("a callback failed", exc_info=True)
            st.session_state.setdefault(session.FAILURES, []).append(explain(error))

    return called


def tell(sentence: Markdown, icon: str | None = None) -> None:
    """Show a toast from a callback, by the page or fragment that runs after it.

    In a fragment a callback shows nothing itself: Streamlit would put it above the page, which then moves down.
    """
    st.session_state.setdefault(session.NOTICES, []).append((sentence, icon))


def show_failures() -> None:
    """What the callbacks before this run of the page could not do, and what else they had to tell; once."""
    sentences: list[Markdown] = st.session_state.pop(session.FAILURES, [])
    for sentence in sentences:
        st.error(sentence, icon=ICON)
    show_notices()


def show_notices() -> None:
    """The same in a fragment, which may be made anew soon, so that only a toast can be read in peace."""
    failures: list[Markdown] = st.session_state.pop(session.FAILURES, [])
    notices: list[tuple[Markdown, str | None]] = st.session_state.pop(session.NOTICES, [])
    for sentence in failures:
        st.toast(sentence, icon=ICON, duration="long")
    for sentence, icon in notices:
        st.toast(sentence, icon=icon)


@contextmanager
def sheltered() -> Iterator[None]:
    """Around a page, and as a decorator around each fragment, which runs without its page."""
    try:
        yield
    except (FlightdeckError, OSError) as error:
        logger.warning("a page failed", exc_info=True)
        st.error(explain(error), icon=ICON)
