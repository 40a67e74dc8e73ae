"""The head of every page: the way back, title and one line on what it is for at the left, the language at the right.

`main` makes the place before the page runs, so that the language picker is one widget on all pages and keeps its
value from one to the next; the page then writes its title there, and into the browser's tab.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import streamlit as st

from pages.parts.shell.docs import docs_link
from pages.parts.shell.html import tag
from pages.parts.shell.language import show_language_picker
from pages.parts.shell.markdown import Markdown, escape, unmarked

PRODUCT = "LoRA Flightdeck"
STYLES = Path(__file__).with_name("flightdeck.css")

_place: ContextVar[Any] = ContextVar("title_place")
_docs_place: ContextVar[Any] = ContextVar("docs_place")


@dataclass(frozen=True)
class Crumb:
    """A page that lies above this one."""

    label: Markdown
    page: str
    query: Mapping[str, str] = field(default_factory=dict)


def make_header() -> None:
    """The row with the picker, and the place for the title."""
    st.html(STYLES)
    if theme := st.context.theme.type:  # Streamlit tells the app alone, and popovers and dialogs stand outside of it
        st.html(tag("style", [f":root {{ color-scheme: {theme} }}"]))
    with st.container(horizontal=True, wrap=False, key="page_head"):
        _place.set(st.container(gap="xxsmall"))
        with st.container(width="content", gap="small", horizontal=True, vertical_alignment="center", key="page_tools"):
            _docs_place.set(st.container(width="content"))
            show_language_picker()


def page_header(
    title: Markdown,
    caption: Markdown | None = None,
    *,
    crumbs: Sequence[Crumb] = (),
    tab: str | None = None,
    docs: str | None = None,
) -> None:
    """Write the page's title into its place, below the `crumbs`.

    `tab`: what the browser's tab says, else the title; `docs`: the page of `docs/` that says more, "" for the list of them.
    """
    browser_tab(tab or unmarked(title))
    with _place.get():
        if crumbs:
            with st.container(horizontal=True, gap="xxsmall", key="crumbs"):
                for crumb in crumbs:
                    st.page_link(
                        crumb.page,
                        label=escape(crumb.label),
                        icon=":material/chevron_left:",
                        query_params=dict(crumb.query),
                    )
        st.title(title, anchor=False)
        if caption:
            st.caption(caption)
    if docs is not None:
        with _docs_place.get():
            docs_link(docs)


def browser_tab(text: str) -> None:
    """Let the browser's tab say `text`, which may change while a page is shown: `42% · SmolLM2`."""
    st.set_page_config(page_title=text if text == PRODUCT else f"{text} · {PRODUCT}")
