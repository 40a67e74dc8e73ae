"""The head of a page: title, one line on what it is for, and the language."""

from __future__ import annotations

import streamlit as st

from pages.parts.language import show_language_picker


def page_header(title: str, caption: str) -> None:
    """Title at the left, language at the right."""
    # Streamlit leaves six empty lines under the top navigation, and has no option for them.
    st.html("<style>[data-testid='stMainBlockContainer'] { padding-top: 3.5rem }</style>")
    with st.container(horizontal=True, vertical_alignment="bottom"):
        with st.container(gap=None):
            st.title(title, anchor=False)
            st.caption(caption)
        with st.container(width="content"):
            show_language_picker()
