"""Edits of a draft in this tab: saved if nobody else changed it meanwhile, shown again in every view, undone and redone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from lora_backend.config.config_writing import with_values
from lora_backend.config.drafts import Draft, DraftConflictError, revision_of
from pages.parts.draft import session


def current_text(draft: Draft) -> str:
    """The draft's text, from which this tab's next edit starts; views are made anew where someone else changed it."""
    text = draft.text()
    seen = st.session_state.get(session.SEEN_TEXT)
    if seen is not None and seen != (draft.id, text):
        refresh_views()
    st.session_state[session.SEEN_TEXT] = (draft.id, text)
    return text


def refresh_views(*, form: bool = True, text: bool = True) -> None:
    """Have the views read the draft anew: their widgets get new keys."""
    for wanted, key in ((form, session.FORM_REVISION), (text, session.TEXT_REVISION)):
        if wanted:
            st.session_state[key] = st.session_state.get(key, 0) + 1


def save_text(draft: Draft, text: str, *, from_form: bool = False, from_text: bool = False) -> None:
    """Save what one view wrote; the other ones follow. What someone else saved meanwhile is kept and asked about."""
    try:
        draft.save(text, revision_of(_seen(draft)))
    except DraftConflictError as conflict:
        st.session_state[session.CONFLICT] = (draft.id, conflict.mine, conflict.theirs)
        refresh_views()
        return
    st.session_state[session.SEEN_TEXT] = (draft.id, text)
    refresh_views(form=not from_form, text=not from_text)


def set_values(draft: Draft, changes: Mapping[str, Any], *, from_form: bool = False) -> None:
    """Set keys in the text that this tab shows (`DELETE` takes one out)."""
    save_text(draft, with_values(_seen(draft), changes), from_form=from_form)


def step(draft: Draft, *, forward: bool) -> None:
    """Undo, or redo."""
    if draft.redo() if forward else draft.undo():
        st.session_state[session.SEEN_TEXT] = (draft.id, draft.text())
        refresh_views()


def _seen(draft: Draft) -> str:
    draft_id, text = st.session_state.get(session.SEEN_TEXT, (None, ""))
    return text if draft_id == draft.id else draft.text()
