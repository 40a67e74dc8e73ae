"""The model behind a chat: what it would need before it is loaded; its device, its memory, its end once it is."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from lora_backend.chats.documents import Chat
from lora_backend.errors import ModelError
from lora_backend.formats import rough_size
from lora_backend.i18n import N_
from lora_backend.preflight.chat_room import ChatRoom, chat_room
from lora_backend.runs.processes.leases import CPU, holders
from lora_backend.views.chat_view import idle_message
from pages.parts.shell.failing import safely, sheltered, show_notices
from pages.parts.shell.language import say, t
from pages.parts.shell.markdown import Markdown, joined
from pages.parts.shell.navigation import MODELS
from pages.parts.shell.services import browser_policy, chat_client, installation

LOOK_EVERY_S = 5.0
"""A model leaves memory by itself, and what is said of it goes with it."""


def model_ready(chat: Chat) -> bool:
    """Say what there is to know of the chat's model; whether it can be asked."""
    try:
        loaded = chat_client().model()
        is_loaded = loaded is not None and loaded.base_model == chat.base_model
        freed = loaded.num_bytes if loaded is not None and loaded.device == CPU else 0
        room = chat_room(
            chat.base_model, chat.columns, chat.sampling, installation(), browser_policy(), freed_bytes=freed
        )
    except ModelError as error:
        st.error(say(error.message), icon=":material/deployed_code_alert:")
        st.page_link(MODELS, label=t(N_("Get a model")), icon=":material/deployed_code:")
        return False
    if room.is_completion:
        st.info(
            t(N_("This model has no chat template, so it continues your prompt instead of answering it.")),
            icon=":material/short_text:",
        )
    if loaded is not None:
        st.fragment(_loaded, run_every=LOOK_EVERY_S)(chat.base_model)
    if not is_loaded:
        _say_what_it_needs(room)
    _say_who_trains(loaded.device if loaded is not None else room.device)
    return is_loaded or room.message is None


@sheltered()
def _loaded(asked: str) -> None:
    """What is in memory, of whichever chat."""
    loaded = chat_client().model()
    if loaded is None:
        st.rerun()
    assert loaded is not None
    show_notices()
    said = N_("{model} is loaded: {size} in {device}")
    if loaded.base_model != asked:
        said = N_("Another model is loaded, {model}: {size} in {device}. Your next prompt replaces it")
    name, held = Path(loaded.base_model).name, rough_size(loaded.num_bytes)
    parts = [t(said, model=name, size=held, device=loaded.device_name), say(idle_message(loaded.ends_after_s))]
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption(Markdown(":material/memory: ") + joined(" · ", parts), width="content")
        st.button(
            t(N_("Unload")), icon=":material/eject:", type="tertiary", key="unload_chat_model",
            on_click=safely(chat_client().unload), help=t(N_("Frees the memory. The next prompt loads the model again.")),
        )  # fmt: skip


def _say_who_trains(device: str) -> None:
    """On the CPU a chat leaves the cores to whoever trains there."""
    training = holders(installation().leases, [CPU]) if device == CPU else []
    if training:
        said = N_("Run {run} is using the CPU, so the chat answers with one thread.")
        st.caption(Markdown(":material/speed: ") + t(said, run=training[0].run))


def _say_what_it_needs(room: ChatRoom) -> None:
    if room.message is not None:
        st.error(say(room.message), icon=":material/memory_alt:")
        return
    said = N_(
        "Not loaded yet. It needs {needed} of the {free} free in {device}: {weights} of weights, {adapters} of adapters, {cache} for the chat, {work} to compute."
    )
    figures = {
        "needed": room.needed_bytes, "free": room.free_bytes, "weights": room.weights_bytes,
        "adapters": room.adapters_bytes, "cache": room.cache_bytes, "work": room.work_bytes,
    }  # fmt: skip
    sizes = {name: rough_size(amount) for name, amount in figures.items()}
    st.caption(Markdown(":material/memory: ") + t(said, device=room.device_name, **sizes))
