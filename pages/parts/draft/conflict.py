"""Two tabs changed one draft: what differs, and which of the two texts stays."""

from __future__ import annotations

import difflib

import streamlit as st

from lora_backend.config.drafts import Draft
from lora_backend.escaping import visible_lines
from lora_backend.i18n import N_
from pages.parts.draft import session
from pages.parts.draft.edit import refresh_views
from pages.parts.shell.failing import safely
from pages.parts.shell.language import t


def show_conflict(draft: Draft) -> None:
    """The question that a refused save leaves; nothing while there is none."""
    draft_id, mine, _ = st.session_state.get(session.CONFLICT, (None, "", ""))
    if draft_id != draft.id:
        return
    theirs = draft.text()
    with st.container(border=True):
        st.warning(
            t(N_("Another tab changed this draft while you edited it here. Your change is not saved yet.")),
            icon=":material/call_split:",
        )
        with st.container(horizontal=True):
            st.button(
                t(N_("Keep mine")),
                type="primary",
                icon=":material/person:",
                key="keep_mine",
                on_click=safely(_settle),
                args=(draft, mine),
            )
            st.button(
                t(N_("Use theirs")),
                icon=":material/group:",
                key="take_theirs",
                on_click=safely(_settle),
                args=(draft, None),
            )
        with st.expander(t(N_("Show the difference")), expanded=True, icon=":material/difference:"):
            names = (t(N_("theirs, saved")), t(N_("mine, not saved")))
            lines = difflib.unified_diff(theirs.splitlines(), mine.splitlines(), *names, lineterm="")
            st.code(visible_lines("\n".join(lines)), language="diff", wrap_lines=True)


def _settle(draft: Draft, mine: str | None) -> None:
    if mine is not None:
        draft.save(mine)
    st.session_state.pop(session.CONFLICT, None)
    st.session_state[session.SEEN_TEXT] = (draft.id, draft.text())
    refresh_views()
