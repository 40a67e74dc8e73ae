"""Pick an adapter of this machine from one list: of runs and their checkpoints, uploaded, published, cached, or any folder."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from lora_backend.escaping import visible
from lora_backend.i18n import N_
from lora_backend.models.adapters_here import AdapterHere
from pages.parts.shell.failing import safely
from pages.parts.shell.language import language, t
from pages.parts.shell.markdown import Markdown
from pages.parts.widgets.adapters_listed import adapter_label, listed_adapters


def one_adapter(
    label: Markdown,
    key: str,
    current: AdapterHere | str | None,
    choose: Callable[[str], None],
    help_text: Markdown | None = None,
) -> None:
    """A select box for one adapter, in which a folder may be typed; `choose` is given the address that was chosen, empty for none.

    `current`: the listed adapter that is chosen now, or its words as they are.
    """
    listed = listed_adapters()
    word = current.address if isinstance(current, AdapterHere) else current
    field = _field(key, word)
    st.selectbox(
        label,
        list(dict.fromkeys([*([word] if word else []), *listed])),
        index=None,
        key=field,
        format_func=lambda one: visible(adapter_label(listed[one]) if one in listed else one),
        accept_new_options=True,
        placeholder=t(N_("Choose one, or type its folder")),
        on_change=safely(_chose_one),
        args=(field, choose),
        help=help_text,
    )


def _field(key: str, value: object) -> str:
    """The key of the field, which shows `value`: one for each language, for its options are words of one."""
    field = f"{key}-{language()}"
    if field not in st.session_state or st.session_state[field] != value:
        st.session_state[field] = value
    return field


def _chose_one(field: str, choose: Callable[[str], None]) -> None:
    choose((st.session_state[field] or "").strip())
