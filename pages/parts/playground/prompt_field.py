"""The field for the next prompt."""

from __future__ import annotations

import streamlit as st

from lora_backend.chats.documents import Chat, Turn
from lora_backend.errors import FlightdeckError
from lora_backend.i18n import N_
from lora_backend.views.chat_view import title_of
from pages.parts.playground import session
from pages.parts.playground.open_chat import ask
from pages.parts.shell import addresses
from pages.parts.shell.failing import safely
from pages.parts.shell.language import say, t
from pages.parts.shell.services import kept_answers


def prompt_field(chat: Chat, *, can_ask: bool) -> None:
    """At the foot of the page; what was refused stays in it."""
    if refused := st.session_state.pop(session.REFUSED, None):
        st.error(say(refused), icon=":material/error:")
    under = kept_answers().under_way(chat.id) if chat.id else None
    st.chat_input(
        t(N_("Ask all columns")) if len(chat.columns) > 1 else t(N_("Ask")),
        key=session.PROMPT,
        disabled=not can_ask or under is not None,
        on_submit=safely(_send),
        args=(chat,),
    )


def _send(chat: Chat) -> None:
    prompt = str(st.session_state[session.PROMPT] or "")
    kept = kept_answers()
    if chat.id:
        chat = kept.store.read(chat.id)
    else:
        chat = chat.but(id=kept.store.new_id(), created_at=kept.store.clock(), title=title_of(prompt))
    turns = [*chat.turns, Turn(prompt=prompt, replies={})]
    try:
        ask(chat.but(turns=turns), len(turns) - 1)
    except FlightdeckError as error:
        st.session_state[session.REFUSED] = error.message
        st.session_state[session.PROMPT] = prompt  # to be mended, not typed again
        return
    st.session_state.pop(session.UNDO, None)
    st.session_state.pop(session.FRESH, None)
    for key in (addresses.WITH, addresses.MODEL):
        st.query_params.pop(key, None)
    st.query_params[addresses.CHAT] = chat.id
