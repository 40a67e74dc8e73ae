"""What a new config asks first: a name, a base model, data. Tasks that are ticked off, not errors."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from lora_backend.config.config_text import ConfigDocument
from lora_backend.config.drafts import Draft
from lora_backend.config.findings import Finding
from lora_backend.config.named_data import trained_on
from lora_backend.i18n import N_
from pages.parts.draft.edit import set_values
from pages.parts.draft.naming import name_field
from pages.parts.draft.upload import upload_field
from pages.parts.shell.language import t
from pages.parts.shell.markdown import Markdown, code, joined
from pages.parts.widgets.data_picker import data_picker
from pages.parts.widgets.model_picker import model_picker, picked_name
from pages.parts.widgets.picker_field import PickerField

TASKS = frozenset({"missing_key", "no_data"})
"""Codes of the blockers that are nothing but an empty field."""


def is_task(blocker: Finding) -> bool:
    """Whether it only says that something was not chosen yet."""
    return blocker.code in TASKS and blocker.key in ("model_name", "dataset")


def first_steps(draft: Draft, document: ConfigDocument, tasks: Sequence[Finding]) -> None:
    """The checklist; nothing once model and data are chosen."""
    if not tasks:
        return
    values, missing = document.values, {task.key for task in tasks}
    with st.container(border=True, key="first_steps", gap="xsmall"):
        _step(t(N_("Choose a base model")), done="model_name" not in missing)
        model_picker(t(N_("Base model")), _text(values.get("model_name")), _field(draft, "model_name"), None)
        _step(t(N_("Choose your data")), done="dataset" not in missing)
        if "dataset" in missing:
            with st.container(horizontal=True, vertical_alignment="bottom"):
                with st.container(width="stretch"):
                    data_picker(t(N_("Data set")), None, _field(draft, "dataset"), None)
                with st.popover(t(N_("Upload")), icon=":material/upload_file:"):
                    upload_field(draft)
        else:
            st.caption(joined(", ", (code(named.path) for named in trained_on(values))))
        _step(t(N_("Name it, if you like")), done=draft.name() is not None)
        name_field(draft)


def _step(words: Markdown, *, done: bool) -> None:
    icon = ":green[:material/check_circle:]" if done else ":material/radio_button_unchecked:"
    st.markdown(Markdown(f"{icon} **{words}**"))


def _field(draft: Draft, key: str) -> PickerField:
    widget = f"first-{draft.id}-{key}"
    return PickerField(widget, _take, (draft, key, widget), label_visibility="collapsed")


def _take(draft: Draft, key: str, widget: str) -> None:
    chosen = st.session_state[widget]
    if name := (picked_name(chosen) if key == "model_name" else (chosen or "").strip()):
        set_values(draft, {key: name})


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
