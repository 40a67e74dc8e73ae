"""Pick a data set: a file below the data roots, one of the hub's cache, or any path or hub id that is typed."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from lora_backend.data.hub_sets import cached_data_sets
from lora_backend.data.local_files import local_files
from lora_backend.escaping import visible
from lora_backend.i18n import N_
from pages.parts.shell.failing import safely
from pages.parts.shell.language import t
from pages.parts.shell.markdown import Markdown
from pages.parts.shell.services import installation
from pages.parts.widgets.picker_field import PickerField

FILES_LAST_S = 10


def data_picker(label: Markdown, current: str | None, field: PickerField, help_text: Markdown | None) -> None:
    """A select box in which a name may be typed as well. `current`: what it says now, whatever that is."""
    if field.key not in st.session_state or st.session_state[field.key] != current:
        st.session_state[field.key] = current  # an index would leave no way to clear the field
    st.selectbox(
        label,
        list(dict.fromkeys([*([current] if current else []), *_names(installation().data_roots)])),
        index=None,
        key=field.key,
        format_func=visible,
        accept_new_options=True,
        placeholder=t(N_("Choose a file, or type a path or a hub id")),
        on_change=safely(field.on_change),
        args=field.args,
        help=help_text,
        disabled=field.disabled,
        label_visibility=field.label_visibility,
    )


def forget_data() -> None:
    """Look again: a file was uploaded."""
    _names.clear()


@st.cache_data(show_spinner=False, ttl=FILES_LAST_S, max_entries=8)
def _names(roots: tuple[Path, ...]) -> list[str]:
    return [*(file.name for file in local_files(roots)), *cached_data_sets()]
