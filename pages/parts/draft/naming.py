"""What a draft is called: typed by its people, else the name of its model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import streamlit as st

from lora_backend.config.drafts import MAX_NAME, Draft
from lora_backend.i18n import N_
from pages.parts.shell.failing import safely
from pages.parts.shell.language import t, t_plain


def draft_title(draft: Draft, values: Mapping[str, Any]) -> str:
    """Its name, else its model's, else that it has none."""
    return draft.name() or _model_of(values) or t_plain(N_("Untitled config"))


def name_field(draft: Draft) -> None:
    """A field for the name, which lists and the runs launched from here then have."""
    key = f"name-{draft.id}"
    st.text_input(
        t(N_("Name")),
        draft.name() or "",
        key=key,
        max_chars=MAX_NAME,
        placeholder=t(N_("Name of this config and its runs")),
        label_visibility="collapsed",
        on_change=safely(_rename),
        args=(draft, key),
        width=260,
    )


def _rename(draft: Draft, key: str) -> None:
    draft.rename(st.session_state[key])


def _model_of(values: Mapping[str, Any]) -> str:
    return Path(str(values.get("model_name") or "")).name
