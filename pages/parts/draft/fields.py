"""One field of the config form: the widget for a key's type, and the value that its content means."""

from __future__ import annotations

import types
from typing import Any, Literal, Union, get_args, get_origin

import streamlit as st

from lora_backend.config.config_text import parse_config
from lora_backend.config.config_writing import dump_yaml
from lora_backend.config.diff import same_value
from lora_backend.config.drafts import Draft
from lora_backend.config.inside_findings import PARTS_OF
from lora_backend.config.patch import DELETE
from lora_backend.config.schema import REQUIRED, Key
from lora_backend.escaping import visible
from lora_backend.i18n import N_, Message
from pages.parts.draft import session
from pages.parts.draft.edit import refresh_views, set_values
from pages.parts.draft.facts import KnownFacts
from pages.parts.shell import addresses
from pages.parts.shell.failing import safely
from pages.parts.shell.language import say, sentences, t, t_plain
from pages.parts.shell.markdown import Markdown, code, escape
from pages.parts.shell.navigation import DATA

MAX_LISTED_BLOCKS = 256


def field(draft: Draft, key: Key, value: Any, known: KnownFacts, *, is_set: bool, disabled: bool) -> None:
    """The widget of one key; below it what differs from the default, and the way back to that."""
    revision = st.session_state.setdefault(session.FORM_REVISION, 0)
    widget_key = f"form-{draft.id}-{revision}-{key.name}"
    label = escape(f"{key.name} ({t_plain(key.unit)})" if key.unit else key.name)
    shared: dict[str, Any] = {
        "key": widget_key,
        "help": _help(key, known),
        "on_change": safely(_write),
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
                on_click=safely(_reset),
                args=(draft, key),
            )


def _widget(label: Markdown, key: Key, value: Any, known: KnownFacts, shared: dict[str, Any]) -> None:
    kind, options = _kind(key.annotation), _options(key, known)
    if _takes_mapping(key):
        st.text_area(label, value=_as_yaml(value), height=96, placeholder=t(N_("name: value")), **shared)
    elif _takes_entries(key):
        st.text_area(label, value=_as_yaml(value), height=96, placeholder="- path: …\n  share: 0.5", **shared)
    elif options is not None and (value is None or isinstance(value, list | str)):
        chosen = value if isinstance(value, list) else [value] if value else []
        every = [*options, *(item for item in chosen if item not in options)]
        names = key.name != "target_layers"
        st.multiselect(
            label, every, chosen, accept_new_options=names, format_func=_as_option, placeholder=t(N_("unset")), **shared
        )
    elif (choices := _choices(key)) is not None and (value in choices or value is None):
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
    if key.name == "target_modules":
        return ["all-linear", *(model.linear_modules if model else ())]
    if key.name == "modules_to_save" and model is not None:
        return list(model.outer_modules)
    if key.name == "target_layers" and model is not None and 0 < (model.num_blocks or 0) <= MAX_LISTED_BLOCKS:
        return list(range(model.num_blocks or 0))
    return None


def _choices(key: Key) -> list[Any] | None:
    """The words that a key takes, with true, false and nothing where it takes those; None where it takes more."""
    parts = get_args(key.annotation) if get_origin(key.annotation) in (Union, types.UnionType) else (key.annotation,)
    if not any(get_origin(part) is Literal for part in parts):
        return None
    choices: list[Any] = [None] if type(None) in parts else []
    choices += [True, False] if bool in parts else []
    return choices + [word for part in parts if get_origin(part) is Literal for word in get_args(part)]


def _takes_mapping(key: Key) -> bool:
    parts = get_args(key.annotation) if get_origin(key.annotation) in (Union, types.UnionType) else (key.annotation,)
    return any(get_origin(part) is dict for part in parts)


def _takes_entries(key: Key) -> bool:
    """Whether it is a list of entries that have parts of their own."""
    return key.name in PARTS_OF


def _kind(annotation: Any) -> Any:
    """The type that the field is for: optional and annotated ones without their wrapping."""
    if get_origin(annotation) in (Union, types.UnionType):
        kinds = [item for item in get_args(annotation) if item is not type(None)]
        return float if set(kinds) == {int, float} else _kind(kinds[0])
    return _kind(get_args(annotation)[0]) if hasattr(annotation, "__metadata__") else annotation


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


def _write(draft: Draft, key: Key, widget_key: str) -> None:
    """Put what the field says into the draft; where it says no value, the draft stays and the field says why."""
    problems = st.session_state.setdefault(session.FIELD_PROBLEMS, {})
    problems.pop(widget_key, None)
    value = st.session_state[widget_key]
    if _takes_mapping(key) or _takes_entries(key):
        value, problem = _entries(value) if _takes_entries(key) else _from_yaml(value)
        if problem is not None:
            problems[widget_key] = problem
            return
    elif key.name == "target_modules" and isinstance(value, list):
        value = "all-linear" if value == ["all-linear"] else value or None
    elif isinstance(value, list):
        value = value or None
    elif isinstance(value, str) and get_origin(_kind(key.annotation)) is list:
        value = [_whole(part.strip()) for part in value.split(",") if part.strip()] or None
    elif isinstance(value, float) and value.is_integer():
        value = int(value)
    elif value == "":
        value = None
    is_default = key.default is not REQUIRED and type(value) is type(key.default) and value == key.default
    set_values(draft, {key.name: DELETE if value is None or is_default else value}, from_form=True)


def _reset(draft: Draft, key: Key) -> None:
    set_values(draft, {key.name: DELETE})
    refresh_views(text=False)


def _from_yaml(text: str) -> tuple[Any, Message | None]:
    """The value in a field of YAML: a mapping, or a bare word."""
    if not text.strip():
        return None, None
    document = parse_config(text)
    if document.is_readable:
        return document.values or None, None
    word = parse_config(f"value: {text.strip()}")
    value = word.values.get("value")
    if word.is_readable and "\n" not in text.strip() and not isinstance(value, dict | list):
        return value, None
    return None, document.problems[0].message


def _entries(text: str) -> tuple[Any, Message | None]:
    """The list in a field of YAML."""
    if not text.strip():
        return None, None
    document = parse_config("value:\n" + text)
    return document.values.get("value"), None if document.is_readable else document.problems[0].message


def _whole(text: str) -> int | str:
    return int(text) if text.lstrip("-").isdecimal() else text
