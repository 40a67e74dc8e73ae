"""Edits of a draft in this tab, from a field or a text: saved if nobody else changed it meanwhile, shown again in every view, undone and redone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_origin

import streamlit as st

from lora_backend.config.config_text import parse_config
from lora_backend.config.config_writing import with_values
from lora_backend.config.drafts import Draft, DraftConflictError, revision_of
from lora_backend.config.inside_findings import PARTS_OF
from lora_backend.config.key_queries import kind_of_values, takes_mapping
from lora_backend.config.patch import DELETE
from lora_backend.config.schema import REQUIRED, Key
from lora_backend.config.two_edits import merged
from lora_backend.i18n import N_, Message
from pages.parts.draft import session
from pages.parts.shell.failing import tell
from pages.parts.shell.language import t
from pages.parts.widgets.model_picker import picked_name


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
    """Save what one view wrote; the other ones follow. What someone else saved meanwhile is kept: merged where both edits
    touch other keys, else asked about."""
    base = shown_text(draft)
    try:
        draft.save(text, revision_of(base))
    except DraftConflictError as conflict:
        if not _merged(draft, base, conflict):
            st.session_state[session.CONFLICT] = (draft.id, conflict.mine, conflict.theirs)
        refresh_views()
        return
    st.session_state[session.SEEN_TEXT] = (draft.id, text)
    refresh_views(form=not from_form, text=not from_text)


def _merged(draft: Draft, base: str, conflict: DraftConflictError) -> bool:
    """Whether both edits are saved now."""
    together = merged(base, conflict.mine, conflict.theirs)
    if together is None:
        return False
    try:
        draft.save(together, revision_of(conflict.theirs))
    except DraftConflictError:  # a third one
        return False
    st.session_state[session.SEEN_TEXT] = (draft.id, together)
    tell(t(N_("Merged with changes from another tab.")), ":material/merge:")
    return True


def set_values(draft: Draft, changes: Mapping[str, Any], *, from_form: bool = False) -> None:
    """Set keys in the text that this tab shows (`DELETE` takes one out)."""
    save_text(draft, with_values(shown_text(draft), changes), from_form=from_form)


def write_field(draft: Draft, key: Key, widget_key: str) -> None:
    """Put what the field says into the draft; where it says no value, the draft stays and the field says why."""
    problems = st.session_state.setdefault(session.FIELD_PROBLEMS, {})
    problems.pop(widget_key, None)
    value = st.session_state[widget_key]
    if key.name == "model_name":
        value = picked_name(value)
    elif key.name == "dataset" and isinstance(value, str):
        value = value.strip()
    if takes_mapping(key) or key.name in PARTS_OF:
        value, problem = _entries(value) if key.name in PARTS_OF else _from_yaml(value)
        if problem is not None:
            problems[widget_key] = problem
            return
    elif key.name == "target_modules" and isinstance(value, list):
        value = "all-linear" if value == ["all-linear"] else value or None
    elif isinstance(value, list):
        value = value or None
    elif isinstance(value, str) and get_origin(kind_of_values(key.annotation)) is list:
        value = [_whole(part.strip()) for part in value.split(",") if part.strip()] or None
    elif isinstance(value, float) and value.is_integer():
        value = int(value)
    elif value == "":
        value = None
    is_default = key.default is not REQUIRED and type(value) is type(key.default) and value == key.default
    set_values(draft, {key.name: DELETE if value is None or is_default else value}, from_form=True)


def reset_field(draft: Draft, key: Key) -> None:
    """Back to the default."""
    set_values(draft, {key.name: DELETE})
    refresh_views(text=False)


def step(draft: Draft, *, forward: bool) -> None:
    """Undo, or redo."""
    if draft.redo() if forward else draft.undo():
        st.session_state[session.SEEN_TEXT] = (draft.id, draft.text())
        refresh_views()


def shown_text(draft: Draft) -> str:
    """What this tab shows of the draft, whatever others have saved since."""
    draft_id, text = st.session_state.get(session.SEEN_TEXT, (None, ""))
    return text if draft_id == draft.id else draft.text()


def _from_yaml(text: str) -> tuple[Any, Message | None]:
    """The value in a field of YAML: a mapping, or a bare word."""
    if not text.strip():
        return None, None
    document = parse_config(text)
    if document.is_readable:
        return document.values or None, None
    word = parse_config(f"value: {text.strip()}")
    value = word.values.get("value")
    if word.is_readable and "\n" not in text.strip() and not isinstance(value, dict | list):
        return value, None
    return None, document.problems[0].message


def _entries(text: str) -> tuple[Any, Message | None]:
    """The list in a field of YAML."""
    if not text.strip():
        return None, None
    document = parse_config("value:\n" + text)
    return document.values.get("value"), None if document.is_readable else document.problems[0].message


def _whole(text: str) -> int | str:
    return int(text) if text.lstrip("-").isdecimal() else text
