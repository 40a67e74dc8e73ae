"""The chat that the page shows: the one of the address, or one that has no prompt yet; and how it is changed."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from lora_backend.chats.documents import Chat
from lora_backend.chats.kept_answers import UnderWay
from lora_backend.i18n import N_, Message
from pages.parts.playground import session
from pages.parts.shell import addresses
from pages.parts.shell.services import browser_policy, kept_answers


def open_chat() -> tuple[Chat, UnderWay | None]:
    """With as much of its answers as is written, and what is being answered of it. Raises `FlightdeckError` where the
    address names one that is not there."""
    asked = st.query_params.get(addresses.CHAT)
    return kept_answers().look(asked) if asked else (fresh_chat(), None)


def fresh_chat() -> Chat:
    """The chat of this session without a prompt; it has no id."""
    return st.session_state.get(session.FRESH) or Chat(id="")


def change(chat: Chat, how: Callable[[Chat], Chat]) -> None:
    """Change the file of a chat, or the one that has none yet."""
    if chat.id:
        kept_answers().change(chat.id, how)
    else:
        st.session_state[session.FRESH] = how(fresh_chat())


def ask(chat: Chat, turn: int) -> None:
    """Have a turn answered. Raises `FlightdeckError` where the browser may not name the chat's models: its file may come
    from anywhere."""
    refuse_outside(chat)
    kept_answers().ask(chat, turn)
    st.session_state[session.CHANGED] = True


def compare(chat_id: str, turn: int, label: str) -> None:
    """Have an answer's tokens compared with the base model's. Raises as `ask` does."""
    kept = kept_answers()
    chat = kept.store.read(chat_id)
    refuse_outside(chat)
    kept.compare(chat, turn, label)
    st.session_state[session.CHANGED] = True


def refuse_outside(chat: Chat) -> None:
    """Raise `FlightdeckError` where a model of the chat is not here, or lies outside what the browser may name."""
    policy = browser_policy()
    policy.model(chat.base_model)
    for column in chat.columns:
        if column.adapter is not None:
            policy.adapter(column.adapter)


def start_afresh(chat: Chat, words: str) -> None:
    """A new chat with the same models and settings as `chat`; `words` say in the address who answers."""
    st.session_state[session.FRESH] = Chat(id="", system=chat.system, sampling=chat.sampling)
    for key in (session.EDITING, session.UNDO):
        st.session_state.pop(key, None)
    st.query_params.pop(addresses.CHAT, None)
    if words:
        st.query_params[addresses.WITH] = words
    if chat.base_model:
        st.query_params[addresses.MODEL] = chat.base_model


def remember(before: Chat, done: str) -> None:
    """Keep the way back from an edit or a deletion."""
    st.session_state[session.UNDO] = (before, Message(done))


EDITED_TURN = N_("The prompt was changed, and everything after it was removed.")
DELETED_TURN = N_("The turn was deleted.")
