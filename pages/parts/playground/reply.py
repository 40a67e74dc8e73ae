"""One answer: who gave it, its text as it grows, how it went, and a copy of it."""

from __future__ import annotations

import streamlit as st

from lora_backend.chats.documents import Chat, Reply
from lora_backend.escaping import visible_lines
from lora_backend.i18n import N_
from lora_backend.runs.record.job_documents import Column
from lora_backend.views.chat_view import CUT_OFF, column_message, is_cut_off, reply_facts
from pages.parts.playground.disagreement import show_tokens
from pages.parts.playground.open_chat import compare
from pages.parts.shell.failing import safely
from pages.parts.shell.language import say, t
from pages.parts.shell.markdown import bold, joined


def show_reply(chat: Chat, number: int, column: Column, reply: Reply, *, is_writing: bool, can_compare: bool) -> None:
    """An answer in its column. `is_writing`: more of it may come; `can_compare`: nothing stands in the way of that now."""
    st.markdown(bold(say(column_message(column, chat))))
    with st.container():
        _text(reply, is_writing=is_writing)
    if is_writing and reply.ended is None:
        return
    st.caption(joined(" · ", map(say, reply_facts(reply))))
    if reply.text:
        key = f"{number}-{column.label}"
        with st.container(horizontal=True):
            with st.popover(t(N_("Copy")), icon=":material/content_copy:", type="tertiary", key=f"copy-{key}"):
                st.code(visible_lines(reply.text), language=None, wrap_lines=True)
            if column.adapter is not None and reply.tokens is None:
                st.button(
                    t(N_("Compare with base")), icon=":material/difference:", type="tertiary", key=f"kl-{key}",
                    disabled=not can_compare, on_click=safely(compare), args=(chat.id, number, column.label),
                    help=t(N_("Colors each token by how far the adapter and its base model disagree on it.")),
                )  # fmt: skip


def _text(reply: Reply, *, is_writing: bool) -> None:
    if reply.tokens is not None:
        show_tokens(reply.tokens)
    else:
        st.text(visible_lines(reply.text) or ("…" if is_writing else "–"), width="stretch")
    if reply.error is not None:
        st.error(say(reply.error), icon=":material/error:")
    elif not is_writing and is_cut_off(reply):
        st.warning(t(CUT_OFF), icon=":material/broken_image:")
