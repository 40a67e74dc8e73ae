"""The head of every page: title and one line on what it is for at the left, the language at the right.

`main` makes the place before the page runs, so that the language picker is one widget on all pages and keeps its
value from one to the next; the page then writes its title there.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

import streamlit as st

from pages.parts.shell.language import show_language_picker
from pages.parts.shell.markdown import Markdown

_place: ContextVar[Any] = ContextVar("title_place")


def make_header() -> None:
    """The row with the picker, and the place for the title."""
    # Streamlit leaves six empty lines under the top navigation, and has no option for them.
    st.html("<style>[data-testid='stMainBlockContainer'] { padding-top: 3.5rem }</style>")
    with st.container(horizontal=True, vertical_alignment="bottom"):
        _place.set(st.container(gap=None))
        with st.container(width="content"):
            show_language_picker()


def page_header(title: Markdown, caption: Markdown | None = None) -> None:
    """Write the page's title into its place."""
    with _place.get():
        st.title(title, anchor=False)
        st.caption(caption or Markdown())
