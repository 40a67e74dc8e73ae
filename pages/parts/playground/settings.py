"""The folded box of settings: system prompt, and how answers are drawn. They hold from the next answer on."""

from __future__ import annotations

import streamlit as st

from lora_backend.chats.documents import Chat, Sampling
from lora_backend.i18n import N_
from lora_backend.views.chat_view import settings_facts
from pages.parts.playground.open_chat import change
from pages.parts.shell.failing import safely
from pages.parts.shell.language import say, t
from pages.parts.shell.markdown import joined

FIELD_WIDTH = 150
MOST_TOKENS = 32_768
MOST_TEMPERATURE = 5.0
FIELDS = ("system", "temperature", "top_p", "top_k", "repetition_penalty", "max_new_tokens", "seed", "stop")


def settings_box(chat: Chat) -> None:
    """Fields that are kept with the chat as they are changed."""
    label = joined(" · ", [t(N_("Settings")), *map(say, settings_facts(chat.sampling))])
    with st.expander(label, key="try_settings"):
        _fill(chat)
        st.text_area(t(N_("System prompt")), height=80, **_field(chat, "system"))  # type: ignore[arg-type]
        with st.container(horizontal=True):
            _numbers(chat)
        st.text_area(
            t(N_("Stop texts, one per line")),
            height=80,
            help=t(N_("An answer ends before the first of them. `\\n` is a line end.")),
            **_field(chat, "stop"),  # type: ignore[arg-type]
        )


def _numbers(chat: Chat) -> None:
    is_greedy = chat.sampling.temperature == 0
    st.number_input(
        t(N_("Temperature")), 0.0, MOST_TEMPERATURE, step=0.1, width=FIELD_WIDTH,
        help=t(N_("0: always the likeliest token. Higher: more varied.")), **_field(chat, "temperature"),
    )  # fmt: skip
    st.number_input(
        "Top-p", 0.01, 1.0, step=0.05, width=FIELD_WIDTH, disabled=is_greedy,
        help=t(N_("Only the likeliest tokens that together reach this probability. Needs a temperature above 0.")), **_field(chat, "top_p"),
    )  # fmt: skip
    st.number_input(
        "Top-k", 0, 100_000, step=10, width=FIELD_WIDTH, disabled=is_greedy,
        help=t(N_("Only this many of the likeliest tokens; 0: all. Needs a temperature above 0.")), **_field(chat, "top_k"),
    )  # fmt: skip
    st.number_input(
        t(N_("Repetition penalty")), 0.1, 5.0, step=0.05, width=FIELD_WIDTH,
        help=t(N_("1: none. Higher: tokens already used become less likely.")), **_field(chat, "repetition_penalty"),
    )  # fmt: skip
    st.number_input(
        t(N_("Longest answer, tokens")), 1, MOST_TOKENS, step=64, width=FIELD_WIDTH, **_field(chat, "max_new_tokens")
    )
    st.number_input(
        t(N_("Seed")), 0, 2**31 - 1, step=1, width=FIELD_WIDTH, disabled=is_greedy,
        help=t(N_("The same seed gives the same answer. Retry goes on to the next one.")), **_field(chat, "seed"),
    )  # fmt: skip


def _key(chat: Chat, name: str) -> str:
    return f"try-{name}-{chat.id or 'fresh'}"


def _field(chat: Chat, name: str) -> dict[str, object]:
    return {"key": _key(chat, name), "on_change": safely(_keep), "args": (chat,)}


def _fill(chat: Chat) -> None:
    """Before the fields are made: what the chat says."""
    sampling = chat.sampling
    values = {name: getattr(sampling, name) for name in FIELDS if name not in ("system", "stop")}
    bounds = {
        "temperature": (0.0, MOST_TEMPERATURE), "top_p": (0.01, 1.0), "top_k": (0, 100_000), "repetition_penalty": (0.1, 5.0),
        "max_new_tokens": (1, MOST_TOKENS), "seed": (0, 2**31 - 1),
    }  # fmt: skip
    for name, value in values.items():
        low, high = bounds[name]
        st.session_state[_key(chat, name)] = min(max(value, low), high)  # a chat's file may come from anywhere
    st.session_state[_key(chat, "system")] = chat.system
    st.session_state[_key(chat, "stop")] = "\n".join(map(_written, sampling.stop))


def _keep(chat: Chat) -> None:
    said = {name: st.session_state[_key(chat, name)] for name in FIELDS}
    system = str(said.pop("system"))
    stop = [_read(line) for line in str(said.pop("stop")).splitlines() if line]
    sampling = Sampling(stop=stop, **said)
    change(chat, lambda now: now.but(system=system, sampling=sampling))


def _written(stop: str) -> str:
    return stop.replace("\\", "\\\\").replace("\n", "\\n").replace("\t", "\\t")


def _read(line: str) -> str:
    """A line of the field, in which a line end is written as two letters."""
    parts = [part.replace("\\n", "\n").replace("\\t", "\t") for part in line.split("\\\\")]
    return "\\".join(parts)
