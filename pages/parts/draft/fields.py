"""One field of the config form: the widget for a key's type. `edit.py` takes what it says into the text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from lora_backend.config.config_writing import dump_yaml
from lora_backend.config.diff import same_value
from lora_backend.config.drafts import Draft
from lora_backend.config.inside_findings import PARTS_OF
from lora_backend.config.key_queries import kind_of_values, takes_mapping, words_of
from lora_backend.config.schema import KEYS, REQUIRED, Key
from lora_backend.escaping import visible
from lora_backend.i18n import N_
from pages.parts.draft import session
from pages.parts.draft.edit import reset_field, write_field
from pages.parts.draft.facts import KnownFacts
from pages.parts.shell import addresses
from pages.parts.shell.failing import safely
from pages.parts.shell.language import say, sentences, t, t_plain
from pages.parts.shell.markdown import Markdown, code, escape
from pages.parts.shell.navigation import DATA
from pages.parts.widgets.data_picker import data_picker
from pages.parts.widgets.model_picker import model_picker
from pages.parts.widgets.picker_field import PickerField

MAX_LISTED_BLOCKS = 256
NO_TRACKER = KEYS["report_to"].default


def field(draft: Draft, key: Key, value: Any, known: KnownFacts, *, is_set: bool, disabled: bool) -> None:
    """The widget of one key; below it what differs from the default, and the way back to that."""
    revision = st.session_state.setdefault(session.FORM_REVISION, 0)
    widget_key = f"form-{draft.id}-{revision}-{key.name}"
    label = escape(f"{key.name} ({t_plain(key.unit)})" if key.unit else key.name)
    shared: dict[str, Any] = {
        "key": widget_key,
        "help": _help(key, known),
        "on_change": safely(write_field),
        "args": (draft, key, widget_key),
        "disabled": disabled,
    }
    differs = is_set and key.default is not REQUIRED and not same_value(value, key.default)
    with st.container(gap=None):
        _widget(label, key, value, known, shared)
        problem = st.session_state.get(session.FIELD_PROBLEMS, {}).get(widget_key)
        if problem is not None:
            st.error(say(problem))
        if key.name == "dataset" and value:
            query = {addresses.DRAFT: draft.id}
            st.page_link(DATA, label=t(N_("Look at the data")), icon=":material/dataset:", query_params=query)
        if differs:
            default = _as_text(key.default)
            st.button(
                t(N_("≠ default {value} · reset"), value=code(default)) if default else t(N_("set · remove")),
                type="tertiary",
                key=f"reset-{draft.id}-{key.name}",
                icon=":material/undo:",
                disabled=disabled,
                on_click=safely(reset_field),
                args=(draft, key),
            )


def _widget(label: Markdown, key: Key, value: Any, known: KnownFacts, shared: dict[str, Any]) -> None:
    kind, options = kind_of_values(key.annotation), _options(key, known)
    if key.name == "model_name" and (value is None or isinstance(value, str)):
        model_picker(label, value or None, _picker(shared), shared["help"])
    elif key.name == "dataset" and (value is None or isinstance(value, str)):
        data_picker(label, value or None, _picker(shared), shared["help"])
    elif takes_mapping(key):
        st.text_area(label, value=_as_yaml(value), height=96, placeholder=t(N_("name: value")), **shared)
    elif key.name in PARTS_OF:
        st.text_area(label, value=_as_yaml(value), height=96, placeholder="- path: …\n  share: 0.5", **shared)
    elif options is not None and (value is None or isinstance(value, list | str)):
        chosen = value if isinstance(value, list) else [value] if value and value != NO_TRACKER else []
        every = [*options, *(item for item in chosen if item not in options)]
        names = key.name not in ("target_layers", "report_to")
        st.multiselect(
            label, every, chosen, accept_new_options=names, format_func=_as_option, placeholder=t(N_("unset")), **shared
        )
    elif (choices := words_of(key)) is not None and (value in choices or value is None):
        st.selectbox(
            label, choices, choices.index(value) if value in choices else None, format_func=_as_option, **shared
        )
    elif kind is bool and isinstance(value, bool):
        st.toggle(label, value=value, **shared)
    elif kind in (int, float) and (value is None or _is_number(value)):
        whole = kind is int and not isinstance(value, float)
        st.number_input(label, value=value, step=1 if whole else None, format="%d" if whole else "%g", **shared)
    else:
        st.text_input(label, value=_as_text(value), **shared)


def _picker(shared: Mapping[str, Any]) -> PickerField:
    return PickerField(shared["key"], write_field, shared["args"], disabled=shared["disabled"])


def _help(key: Key, known: KnownFacts) -> Markdown:
    default = t(N_("required")) if key.default is REQUIRED else _as_text(key.default) or "–"
    parts = [t(key.help), t(N_("Default: {value}"), value=code(default))]
    model = known.model
    if model is not None and key.name == "target_layers" and model.num_blocks:
        parts.append(t(N_("This model has blocks 0 to {last}."), last=model.num_blocks - 1))
    if model is not None and key.name == "max_length" and model.max_positions:
        parts.append(t(N_("This model was made for {count} tokens."), count=model.max_positions))
    return sentences(parts)


def _options(key: Key, known: KnownFacts) -> list[Any] | None:
    """What a list may be picked from; None where it is typed."""
    model = known.model
    if key.name == "report_to":
        return [word for word in words_of(key) or () if word != NO_TRACKER]
    if key.name == "target_modules":
        return ["all-linear", *(model.linear_modules if model else ())]
    if key.name == "modules_to_save" and model is not None:
        return list(model.outer_modules)
    if key.name == "target_layers" and model is not None and 0 < (model.num_blocks or 0) <= MAX_LISTED_BLOCKS:
        return list(range(model.num_blocks or 0))
    return None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _as_text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return "" if value is None else str(value)


def _as_option(value: Any) -> str:
    return visible(_as_text(value))


def _as_yaml(value: Any) -> str:
    return dump_yaml(value) if isinstance(value, dict | list) and value else _as_text(value or None)
