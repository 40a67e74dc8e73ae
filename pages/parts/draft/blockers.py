"""What keeps a draft from starting on this machine, each with the button that helps."""

from __future__ import annotations

from typing import Literal

import streamlit as st

from lora_backend.config.config_text import parse_config
from lora_backend.config.drafts import Draft
from lora_backend.config.findings import Finding
from lora_backend.escaping import visible
from lora_backend.i18n import N_
from lora_backend.preflight.blockers import DOES_NOT_FIT
from lora_backend.preflight.startable import Startable
from pages.parts.draft.edit import set_values
from pages.parts.draft.first_steps import is_task
from pages.parts.draft.launch import has_been_refused
from pages.parts.draft.upload import upload_field
from pages.parts.shell.failing import safely
from pages.parts.shell.language import say, sentences, t
from pages.parts.shell.markdown import joined
from pages.parts.shell.navigation import MODELS, PLAN
from pages.parts.widgets.model_picker import download_link, is_hub_id
from pages.parts.widgets.models_here import models_here

Wish = Literal["plan", "anyway"]


def needs_data(start: Startable) -> bool:
    """Whether the data set is among what is missing, so that its upload stands there."""
    return any(blocker.key == "dataset" for blocker in start.blockers)


def show_blockers(draft: Draft, text: str, start: Startable) -> Wish | None:
    """All of them, and what a launch will ask about; what the reader wants done about a plan that does not fit."""
    # A launch that was refused for its plan says more of it, below.
    refused = has_been_refused(draft, text)
    for warning in start.warnings if not refused else ():
        st.warning(sentences([say(warning.message), say(warning.remedy)]), icon=":material/memory_alt:")
    blockers = [
        blocker for blocker in start.blockers if not is_task(blocker) and not (refused and blocker.code == DOES_NOT_FIT)
    ]
    if not blockers:
        return None
    wish: Wish | None = None
    with st.container(border=True, key="blockers", gap="xsmall"):
        st.markdown(f":material/checklist: **{t(N_('To do before it can start here'))}**")
        helped: set[str | None] = set()  # one button for a key, even if two things are wrong with it
        for number, blocker in enumerate(blockers):
            with st.container(gap=None, key=f"blocker-{number}"):
                place = [t(N_("line {line}"), line=blocker.line)] if blocker.line else []
                st.markdown(joined(" · ", [*place, say(blocker.message)]))
                with st.container(horizontal=True, vertical_alignment="center", gap="small"):
                    st.caption(say(blocker.remedy), width="content")
                    wish = _buttons(draft, text, blocker, number, first=blocker.key not in helped) or wish
            helped.add(blocker.key)
    return wish


def _buttons(draft: Draft, text: str, blocker: Finding, number: int, *, first: bool) -> Wish | None:
    if first and blocker.key == "dataset":
        with st.popover(t(N_("Upload data")), icon=":material/upload_file:"):
            upload_field(draft)
    if first and blocker.key == "model_name":
        with st.popover(t(N_("Choose a model")), icon=":material/deployed_code:"):
            _choose_model(draft, text)
    for place, fix in enumerate(blocker.fixes):
        st.button(
            say(fix.label),
            icon=":material/build:",
            key=f"unblock-{number}-{blocker.code}-{place}",
            on_click=safely(set_values),
            args=(draft, fix.changes),
            help=t(N_("You can undo it.")),
        )
    if blocker.code == DOES_NOT_FIT:
        if st.button(t(N_("Ways to save memory")), icon=":material/memory_alt:", key="save_memory"):
            return "plan"
        if st.button(t(N_("Start anyway")), icon=":material/rocket_launch:", key="start_blocked"):
            return "anyway"
    return None


def _choose_model(draft: Draft, text: str) -> None:
    names = models_here()
    if not names:
        st.caption(t(N_("There is no model on this machine yet.")))
    else:
        key = f"model-{draft.id}"
        st.selectbox(t(N_("Models on this machine")), names, index=None, format_func=visible, key=key)
        st.button(
            t(N_("Use this model")),
            type="primary",
            icon=":material/check:",
            key="use_model",
            on_click=safely(_take),
            args=(draft, key),
            disabled=st.session_state.get(key) is None,
        )
    named = parse_config(text).values.get("model_name")
    if isinstance(named, str) and is_hub_id(named):
        download_link(named)
    else:
        st.page_link(MODELS, label=t(N_("Download a model")), icon=":material/download:")
    st.page_link(PLAN, label=t(N_("See on the Plan page which model fits")), icon=":material/memory:")


def _take(draft: Draft, key: str) -> None:
    if name := st.session_state.get(key):
        set_values(draft, {"model_name": name})
