"""The drafts that are there, the newest first: open one, delete one, take that back."""

from __future__ import annotations

import streamlit as st

from lora_backend.config.config_text import parse_config
from lora_backend.config.drafts import Draft, delete_draft, list_drafts, restore_draft
from lora_backend.errors import ConfigError
from lora_backend.formats import when
from lora_backend.i18n import N_, Plural
from pages.parts.draft import session
from pages.parts.draft.naming import draft_title
from pages.parts.shell import addresses
from pages.parts.shell.failing import safely
from pages.parts.shell.language import explain, t
from pages.parts.shell.markdown import bold, escape, joined
from pages.parts.shell.navigation import CONFIG
from pages.parts.shell.services import installation

RECENT = 8


def recent_drafts() -> None:
    """The last few, and a way to see all."""
    deleted = st.session_state.get(session.DELETED_DRAFTS, [])
    drafts = list_drafts(installation().drafts)
    if not drafts and not deleted:
        return
    st.header(t(N_("Drafts")), anchor=False)
    if deleted:
        with st.container(horizontal=True, vertical_alignment="center"):
            st.caption(t(N_("Draft {id} is in the trash."), id=deleted[-1]))
            st.button(t(N_("Restore")), icon=":material/undo:", key="restore_draft", on_click=safely(_restore))
    shown = drafts
    if len(drafts) > RECENT and not st.toggle(t(N_("Show all {count}"), count=len(drafts)), key="all_drafts"):
        shown = drafts[:RECENT]
    if not shown:
        return
    with st.container(border=True, gap="small", key="list_drafts"):
        for draft in shown:
            _row(draft)


def _row(draft: Draft) -> None:
    try:
        text = draft.text()
    except ConfigError:  # deleted since the list was made
        return
    document = parse_config(text)
    said = [t(Plural("{count} key", "{count} keys"), count=len(document.values))]
    if launches := len(draft.launches()):
        said.append(t(Plural("launched {count} time", "launched {count} times"), count=launches))
    said.append(escape(when(draft.changed_at)))
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute", wrap=False):
        with st.container(gap=None):
            name = bold(draft_title(draft, document.values))
            st.page_link(CONFIG, label=name, query_params={addresses.DRAFT: draft.id})
            st.caption(joined(" · ", said))
        st.button(
            t(N_("Delete")),
            icon=":material/delete:",
            type="tertiary",
            key=f"delete-{draft.id}",
            on_click=safely(_delete),
            args=(draft.id,),
        )


def _delete(draft_id: str) -> None:
    try:
        delete_draft(installation().drafts, draft_id)
    except (ConfigError, OSError) as error:
        st.toast(explain(error))
        return
    st.session_state.setdefault(session.DELETED_DRAFTS, []).append(draft_id)


def _restore() -> None:
    try:
        restore_draft(installation().drafts, st.session_state[session.DELETED_DRAFTS].pop())
    except (ConfigError, OSError) as error:
        st.toast(explain(error))
