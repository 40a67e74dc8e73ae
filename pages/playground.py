"""Try: ask a base model and adapters of it the same, side by side."""

from __future__ import annotations

from pages.parts.shell.guard import guard

guard()

import streamlit as st

from lora_backend.chats.documents import Chat
from lora_backend.chats.kept_answers import UnderWay
from lora_backend.errors import FlightdeckError
from lora_backend.i18n import N_
from pages.parts.playground.choose import choose_columns
from pages.parts.playground.history import chat_bar
from pages.parts.playground.model_status import model_ready
from pages.parts.playground.open_chat import open_chat
from pages.parts.playground.prompt_field import prompt_field
from pages.parts.playground.prompts_file import prompts_file
from pages.parts.playground.settings import settings_box
from pages.parts.playground.turns import show_turns, undo_of_turns
from pages.parts.shell.header import page_header
from pages.parts.shell.language import say, t
from pages.parts.shell.services import kept_answers


def conversation(chat: Chat, under: UnderWay | None) -> None:
    can_ask = model_ready(chat)
    settings_box(chat)
    prompts_file(chat, can_run=can_ask)
    show_turns(chat, under, can_ask=can_ask)
    if failure := kept_answers().failure(chat.id):
        st.error(say(failure), icon=":material/error:")
    undo_of_turns(chat)
    prompt_field(chat, can_ask=can_ask)


page_header(t(N_("Try")), t(N_("Ask a base model and its adapters the same question, side by side.")), docs="try")
try:
    opened, under = open_chat()
except FlightdeckError as error:
    chat_bar(None)
    st.error(say(error.message), icon=":material/error:")
else:
    chat_bar(opened)
    try:
        asked = opened if opened.id else choose_columns()
        if asked is not None:
            conversation(asked, under)
    except FlightdeckError as error:
        st.error(say(error.message), icon=":material/error:")
