"""The conversation: each prompt with its answers side by side, and what can be done with it. Only what is written polls."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from lora_backend.chats.documents import Chat, Reply
from lora_backend.chats.kept_answers import UnderWay
from lora_backend.escaping import visible_lines
from lora_backend.i18n import N_
from lora_backend.views.chat_view import without_later_turns
from pages.parts.playground import session
from pages.parts.playground.open_chat import DELETED_TURN, EDITED_TURN, ask, remember
from pages.parts.playground.reply import show_reply
from pages.parts.shell.failing import safely, sheltered, show_notices
from pages.parts.shell.language import say, t
from pages.parts.shell.services import kept_answers

TICK_S = 0.3


def show_turns(chat: Chat, under: UnderWay | None, *, can_ask: bool) -> None:
    """All turns, each a fragment; one that is being answered is made anew three times a second, and no other.

    `under`: what was being answered when `chat` was read; where that has ended since, the page is made anew.
    """
    st.session_state.pop(session.CHANGED, None)  # the whole page is being made anew as it is
    for number in range(len(chat.turns)):
        is_live = under is not None and under.turn == number
        st.fragment(_turn, run_every=TICK_S if is_live else None)(chat, number, is_live, can_ask)


@sheltered()
def _turn(chat: Chat, number: int, is_live: bool, can_ask: bool) -> None:
    kept = kept_answers()
    under = kept.under_way(chat.id)
    is_writing = under is not None and under.turn == number
    has_changed = st.session_state.pop(session.CHANGED, False)
    if has_changed or is_writing != is_live:
        st.rerun()
    show_notices()
    now = kept.as_it_is_now(chat)
    with st.chat_message("user", avatar=":material/person:"):
        if st.session_state.get(session.EDITING) == (chat.id, number) and under is None:
            _editor(now, number)
        else:
            _prompt(now, number, can_ask=can_ask, is_busy=under is not None)
    with st.container():  # whatever it waits for, what stands below keeps its place
        if under is not None and is_writing and under.answering.progress is not None:
            st.progress(min(max(under.answering.fraction, 0.0), 1.0), say(under.answering.progress))
    _replies(now, number, under if is_writing else None, can_ask=can_ask)
    with st.container(horizontal=True):
        if is_writing:
            st.button(
                t(N_("Stop")), icon=":material/stop_circle:", key=f"stop-{number}",
                on_click=safely(kept.stop), args=(chat.id,),
            )  # fmt: skip
        elif number == len(chat.turns) - 1:
            st.button(
                t(N_("Retry")), icon=":material/refresh:", key=f"retry-{number}", disabled=under is not None or not can_ask,
                on_click=safely(_retry), args=(chat.id, number),
                help=t(N_("All columns answer again. With a temperature above 0, the next seed is used.")),
            )  # fmt: skip


def _prompt(chat: Chat, number: int, *, can_ask: bool, is_busy: bool) -> None:
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.text(visible_lines(chat.turns[number].prompt), width="stretch")
        st.button(
            t(N_("Edit")), icon=":material/edit:", key=f"edit-{number}", type="tertiary", disabled=is_busy or not can_ask,
            on_click=safely(_edit), args=(chat, number),
        )  # fmt: skip
        st.button(
            t(N_("Delete")), icon=":material/delete:", key=f"delete-{number}", type="tertiary", disabled=is_busy,
            on_click=safely(_delete), args=(chat.id, number),
        )  # fmt: skip


def _editor(chat: Chat, number: int) -> None:
    st.text_area(t(N_("Edit the prompt")), key=session.EDITED, label_visibility="collapsed")
    with st.container(horizontal=True):
        st.button(
            t(N_("Ask this instead")), icon=":material/send:", type="primary", key=f"save-{number}",
            on_click=safely(_ask_edited), args=(chat.id, number),
        )  # fmt: skip
        st.button(t(N_("Cancel")), key=f"cancel-{number}", on_click=safely(_leave_editor))
    if number < len(chat.turns) - 1:
        st.caption(t(N_("Everything after this prompt is removed. You can undo it.")))


def _replies(chat: Chat, number: int, under: UnderWay | None, *, can_ask: bool) -> None:
    turn = chat.turns[number]
    can_compare = can_ask and kept_answers().under_way(chat.id) is None
    for place, column in zip(st.columns(max(len(chat.columns), 1)), chat.columns, strict=False):
        is_writing = under is not None and not under.is_comparison and column.label in under.labels
        with place.container(border=True, height="stretch"):
            show_reply(
                chat, number, column, turn.replies.get(column.label, Reply()),
                is_writing=is_writing, can_compare=can_compare,
            )  # fmt: skip


def _edit(chat: Chat, number: int) -> None:
    if session.EDITING in st.session_state:  # another prompt is, and its editor goes
        st.session_state[session.CHANGED] = True
    st.session_state[session.EDITING] = (chat.id, number)
    st.session_state[session.EDITED] = chat.turns[number].prompt


def _leave_editor() -> None:
    st.session_state.pop(session.EDITING, None)


def _ask_edited(chat_id: str, number: int) -> None:
    prompt = str(st.session_state[session.EDITED])
    before = kept_answers().store.read(chat_id)
    ask(without_later_turns(before, number, prompt), number)
    remember(before, EDITED_TURN)
    _leave_editor()


def _retry(chat_id: str, number: int) -> None:
    chat = kept_answers().store.read(chat_id)
    replies = chat.turns[number].replies.values()
    is_whole = bool(replies) and all(reply.ended in ("end", "length", "stop") for reply in replies)
    if chat.sampling.temperature > 0 and is_whole:  # the same seed would give the same answers
        chat = chat.but(sampling=chat.sampling.but(seed=chat.sampling.seed + 1))
    ask(chat, number)


def _delete(chat_id: str, number: int) -> None:
    before = kept_answers().store.read(chat_id)
    _changed(chat_id, lambda chat: chat.but(turns=[*chat.turns[:number], *chat.turns[number + 1 :]]))
    remember(before, DELETED_TURN)


def _changed(chat_id: str, how: Callable[[Chat], Chat]) -> None:
    kept_answers().change(chat_id, how)
    st.session_state[session.CHANGED] = True


def undo_of_turns(chat: Chat) -> None:
    """A line after an edit or a deletion, with the way back."""
    before, done = st.session_state.get(session.UNDO, (None, None))
    if before is None or done is None or before.id != chat.id:
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption(say(done))
        st.button(t(N_("Undo")), icon=":material/undo:", key="undo_turn", on_click=safely(_undo), args=(before,))


def _undo(before: Chat) -> None:
    kept = kept_answers()
    kept.stop(before.id)
    kept.change(before.id, lambda now: now.but(turns=before.turns, title=before.title))
    st.session_state.pop(session.UNDO, None)
