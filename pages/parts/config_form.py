"""The common keys of a draft as a form. The draft's text is the truth: a field writes its one key into it."""

from __future__ import annotations

import types
from typing import Any, Literal, Union, get_args, get_origin

import streamlit as st

from lora_backend.config.drafts import Draft
from lora_backend.config.files import ConfigDocument, with_values
from lora_backend.config.schema import GROUPS, KEYS, REQUIRED, Key
from lora_backend.errors import ModelError
from lora_backend.i18n import N_
from lora_backend.models.describe import describe_model
from lora_backend.preflight.roots import allowed_model
from pages.parts import state_keys
from pages.parts.language import t
from pages.parts.services import settings


def config_form(draft: Draft, document: ConfigDocument) -> None:
    """A field for each common key, grouped, with help, unit and default."""
    known_modules = _linear_modules(document.values.get("model_name"))
    for group, title in GROUPS.items():
        keys = [key for key in KEYS.values() if key.group == group and key.common]
        if not keys:
            continue
        st.markdown(f"**{t(title)}**")
        columns = st.columns(2)
        for index, key in enumerate(keys):
            with columns[index % 2]:
                _field(draft, key, document.values.get(key.name, _default(key)), known_modules)
    st.caption(t(N_("All other keys are set in the text view.")))


def text_changed_elsewhere() -> None:
    """Have both views read the draft anew."""
    for key in (state_keys.FORM_REVISION, state_keys.TEXT_REVISION):
        st.session_state[key] = st.session_state.get(key, 0) + 1


def _default(key: Key) -> Any:
    return None if key.default is REQUIRED else key.default


def _linear_modules(model_name: Any) -> tuple[str, ...]:
    try:
        return describe_model(allowed_model(str(model_name), settings())).linear_modules if model_name else ()
    except ModelError:  # the findings say so
        return ()


def _field(draft: Draft, key: Key, value: Any, known_modules: tuple[str, ...]) -> None:
    revision = st.session_state.setdefault(state_keys.FORM_REVISION, 0)
    widget_key = f"form-{draft.id}-{revision}-{key.name}"
    label = f"{key.name} ({key.unit})" if key.unit else key.name
    default = t(N_("required")) if key.default is REQUIRED else "–" if key.default is None else str(key.default)
    shared: dict[str, Any] = {
        "key": widget_key,
        "help": f"{t(key.help)} {t(N_('Default: {value}'), value=f'`{default}`')}",
        "on_change": _write,
        "args": (draft, key, widget_key),
    }
    kind = _kind(key.annotation)
    if key.name == "target_modules":
        chosen = [value] if isinstance(value, str) else [str(item) for item in value or []]
        options = list(dict.fromkeys(["all-linear", *known_modules, *chosen]))
        st.multiselect(label, options, chosen, accept_new_options=True, **shared)
    elif kind is bool:
        st.toggle(label, value=bool(value), **shared)
    elif get_origin(kind) is Literal:
        options = [str(option) for option in get_args(kind)]
        st.selectbox(label, options, options.index(value) if value in options else None, **shared)
    elif kind in (int, float) and (value is None or _is_number(value)):
        whole = kind is int and not isinstance(value, float)
        st.number_input(label, value=value, step=1 if whole else None, format="%d" if whole else "%g", **shared)
    else:
        st.text_input(label, value=_as_text(value), **shared)


def _kind(annotation: Any) -> Any:
    """The type that the field is for: optional and annotated ones without their wrapping."""
    if get_origin(annotation) in (Union, types.UnionType):
        kinds = [item for item in get_args(annotation) if item is not type(None)]
        return float if set(kinds) == {int, float} else _kind(kinds[0])
    return _kind(get_args(annotation)[0]) if hasattr(annotation, "__metadata__") else annotation


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _as_text(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return "" if value is None else str(value)


def _write(draft: Draft, key: Key, widget_key: str) -> None:
    value = st.session_state[widget_key]
    if key.name == "target_modules":
        value = value[0] if value == ["all-linear"] else value
    elif isinstance(value, str) and get_origin(_kind(key.annotation)) is list:
        value = [_whole(part.strip()) for part in value.split(",") if part.strip()] or None
    elif value == "" or (isinstance(value, float) and value.is_integer() and _accepts_int(key)):
        value = None if value == "" else int(value)
    if value is None or (key.default is not REQUIRED and value == key.default and type(value) is type(key.default)):
        value = REQUIRED  # back at the default: the line goes
    draft.save(with_values(draft.text(), {key.name: value}))
    st.session_state[state_keys.TEXT_REVISION] = st.session_state.get(state_keys.TEXT_REVISION, 0) + 1


def _accepts_int(key: Key) -> bool:
    return _kind(key.annotation) is not bool


def _whole(text: str) -> int | str:
    return int(text) if text.lstrip("-").isdigit() else text
