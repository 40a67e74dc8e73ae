"""Who answers in a new chat: a base model and adapters of it, picked here or named by the address, which keeps them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import streamlit as st

from lora_backend.chats.documents import MOST_COLUMNS, Chat
from lora_backend.escaping import visible
from lora_backend.i18n import N_
from lora_backend.models.adapter_upload import StoredAdapter
from lora_backend.models.adapters_here import AdapterHere
from lora_backend.preflight.asked_columns import BASE, SEPARATOR, AskedColumns, columns_of
from pages.parts.playground import session
from pages.parts.playground.open_chat import fresh_chat
from pages.parts.shell import addresses
from pages.parts.shell.failing import safely
from pages.parts.shell.language import language, say_plain, t, t_plain
from pages.parts.shell.navigation import HOME, MODELS
from pages.parts.shell.services import browser_policy, installation
from pages.parts.widgets.adapter_upload_field import adapter_upload
from pages.parts.widgets.adapters_listed import listed_adapters
from pages.parts.widgets.empty_state import empty_state
from pages.parts.widgets.model_picker import model_picker, picked_name
from pages.parts.widgets.models_here import models_here
from pages.parts.widgets.picker_field import PickerField


def choose_columns() -> Chat | None:
    """The fields; the new chat with who answers in it, or None where nothing can answer yet.

    Raises `FlightdeckError` where the address names what is not there, or what does not belong together.
    """
    adapters = listed_adapters()
    asked = _asked(adapters)
    if asked is None:
        _nothing_here()
        return None
    _fields(asked, adapters)
    return fresh_chat().but(base_model=asked.base_model, columns=list(asked.columns)) if asked.columns else None


def _asked(adapters: Mapping[str, AdapterHere]) -> AskedColumns | None:
    """What the address says; where it says nothing, the newest adapter beside its base model."""
    words = st.query_params.get(addresses.WITH)
    base = st.query_params.get(addresses.MODEL, "")
    if words is None and not base:
        here = models_here()
        newest = next((one for one in adapters.values() if one.base_model in here), None)
        if newest is None and not here:
            return None
        words, base = (newest.address, "") if newest else (BASE, here[0])
    if words == "" and base:  # all were taken out
        return AskedColumns(base, ())
    return columns_of(words or BASE, installation(), browser_policy(), base)


def _fields(asked: AskedColumns, adapters: Mapping[str, AdapterHere]) -> None:
    named = st.query_params.get(addresses.WITH)
    base_place, columns_place = st.columns(2)
    with base_place:
        model_picker(t(N_("Base model")), asked.base_model, PickerField(session.BASE_FIELD, _chose_base), None)
    chosen = _words(asked, named, adapters)
    fitting = [word for word, adapter in adapters.items() if adapter.may_belong_to(asked.base_model)]
    field = f"{session.COLUMNS_FIELD}-{language()}"  # its options are words of one language
    st.session_state[field] = chosen

    def worded(word: str) -> str:
        if word == BASE:
            return t_plain(N_("Base model"))
        return say_plain(adapters[word].label) if word in adapters else visible(word)

    with columns_place:
        st.multiselect(
            t(N_("Who answers, side by side")),
            list(dict.fromkeys([BASE, *chosen, *fitting])),
            format_func=lambda word: visible(worded(word)),
            key=field,
            max_selections=MOST_COLUMNS,
            placeholder=t(N_("Choose up to three")),
            on_change=safely(_chose_columns),
            args=(field, asked.base_model),
        )
        if not fitting:
            st.caption(t(N_("No adapter of this model is here yet. Train one, or upload one.")))
        adapter_upload("try_upload", lambda stored: _add(stored, chosen, asked.base_model))


def _words(asked: AskedColumns, named: str | None, adapters: Mapping[str, AdapterHere]) -> list[str]:
    """The words of who answers, as the field has them."""
    by_folder = {str(adapter.folder): word for word, adapter in adapters.items()}
    typed = [word for word in (named or "").split(SEPARATOR) if word and word != BASE]
    words = []
    for column in asked.columns:
        word = BASE if column.adapter is None else by_folder.get(column.adapter)
        words.append(word or next((one for one in typed if one not in words), str(column.adapter)))
    return words


def _chose_base() -> None:
    name = picked_name(st.session_state[session.BASE_FIELD])
    st.query_params.pop(addresses.WITH, None)
    st.query_params.pop(addresses.MODEL, None)
    if name:
        st.query_params.update({addresses.MODEL: name, addresses.WITH: BASE})


def _chose_columns(field: str, base_model: str) -> None:
    _put_into_address(st.session_state[field], base_model)


def _add(stored: StoredAdapter, chosen: Sequence[str], base_model: str) -> None:
    """An upload answers beside those that were chosen, the last of which makes room where there is none."""
    _put_into_address([*chosen[: MOST_COLUMNS - 1], str(stored.folder)], base_model)


def _put_into_address(words: Sequence[str], base_model: str) -> None:
    st.query_params[addresses.MODEL] = base_model
    alone = len(words) == 1 and words[0] != BASE
    st.query_params[addresses.WITH] = SEPARATOR.join(words) + (SEPARATOR if alone else "")


def _nothing_here() -> None:
    empty_state(
        "chat",
        t(
            N_(
                "There is no model on this machine yet. Start the demo, which brings a small one and trains an adapter for it, or download a model."
            )
        ),
        _ways_on,
    )


def _ways_on() -> None:
    st.page_link(HOME, label=t(N_("To the demo")), icon=":material/home:")
    st.page_link(MODELS, label=t(N_("Get a model")), icon=":material/deployed_code:")
