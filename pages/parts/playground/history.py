"""What stands above a chat: a new one, earlier ones with their addresses, this one as a file; a deletion with its way back."""

from __future__ import annotations

import streamlit as st

from lora_backend.chats.documents import Chat
from lora_backend.i18n import N_
from lora_backend.preflight.asked_columns import words_of
from lora_backend.views.chat_view import chat_facts, chat_json, chat_markdown
from pages.parts.playground import session
from pages.parts.playground.open_chat import start_afresh
from pages.parts.shell import addresses
from pages.parts.shell.failing import safely
from pages.parts.shell.language import language, say, t
from pages.parts.shell.markdown import escape, joined
from pages.parts.shell.navigation import TRY
from pages.parts.shell.services import installation, kept_answers

SHOWN = 30


def chat_bar(chat: Chat | None) -> None:
    """New chat, earlier chats, and the chat that is shown as a file. None: the one of the address is not there."""
    with st.container(horizontal=True):
        if chat is None or chat.id:
            st.button(
                t(N_("New chat")), icon=":material/edit_square:", key="new_chat",
                on_click=safely(_new), args=(chat or Chat(id=""),),
            )  # fmt: skip
        earlier = kept_answers().store.list()
        if earlier:
            with st.popover(t(N_("Earlier chats")), icon=":material/history:", key="earlier_chats"):
                _list(earlier)
        if chat is not None and chat.turns:
            with st.popover(t(N_("Export")), icon=":material/download:", key="export_chat"):
                _export(chat)
    _undo_of_delete()


def _new(chat: Chat) -> None:
    start_afresh(chat, words_of(chat.columns, installation()) if chat.columns else "")


def _list(chats: list[Chat]) -> None:
    for chat in chats[:SHOWN]:
        with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
            with st.container(width=370, gap=None):
                label = escape(chat.title or chat.id)
                st.page_link(TRY, label=label, query_params={addresses.CHAT: chat.id})
                st.caption(joined(" · ", map(say, chat_facts(chat))))
            st.button(
                t(N_("Delete")), icon=":material/delete:", type="tertiary", key=f"delete-chat-{chat.id}",
                on_click=safely(_delete), args=(chat,),
            )  # fmt: skip
    if len(chats) > SHOWN:
        st.caption(t(N_("Only the newest {count} are listed."), count=SHOWN))


def _delete(chat: Chat) -> None:
    kept = kept_answers()
    kept.stop(chat.id)
    kept.store.delete(chat.id)
    st.session_state[session.DELETED] = (chat.id, chat.title)
    if st.query_params.get(addresses.CHAT) == chat.id:
        st.query_params.pop(addresses.CHAT)


def _undo_of_delete() -> None:
    chat_id, title = st.session_state.get(session.DELETED, (None, ""))
    if chat_id is None:
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption(t(N_("The chat “{title}” was deleted."), title=title or chat_id))
        st.button(t(N_("Undo")), icon=":material/undo:", key="undo_chat", on_click=safely(_undelete), args=(chat_id,))


def _undelete(chat_id: str) -> None:
    st.session_state.pop(session.DELETED, None)
    kept_answers().store.undelete(chat_id)
    st.query_params[addresses.CHAT] = chat_id


def _export(chat: Chat) -> None:
    for label, text, ending, mime in (
        (N_("Markdown"), chat_markdown(chat, language()), "md", "text/markdown"),
        (N_("JSON"), chat_json(chat), "json", "application/json"),
    ):
        st.download_button(
            t(label), text, file_name=f"chat-{chat.id}.{ending}", mime=mime, icon=":material/download:",
            on_click="ignore", key=f"export-{ending}",
        )  # fmt: skip
