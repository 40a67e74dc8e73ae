"""What is done with a draft: undo and redo, copy it, take it away, start it."""

from __future__ import annotations

from typing import Any, Literal

import streamlit as st

from lora_backend.config.copying import as_command, as_python
from lora_backend.config.drafts import Draft
from lora_backend.escaping import visible_lines
from lora_backend.i18n import N_
from lora_backend.preflight.resolve import ResolvedConfig
from lora_backend.preflight.startable import Startable
from pages.parts.draft import session
from pages.parts.draft.blockers import show_blockers
from pages.parts.draft.edit import step
from pages.parts.draft.export import export_for_another_tool
from pages.parts.draft.first_steps import is_task
from pages.parts.draft.launch import ask_where_it_is_in_doubt, launch_draft, num_nodes_of
from pages.parts.draft.naming import name_field
from pages.parts.shell import addresses
from pages.parts.shell.failing import safely
from pages.parts.shell.language import t
from pages.parts.shell.navigation import CONFIG, RUNS
from pages.parts.widgets.meeting_fields import meeting_fields

FEW_LINES = 6  # so many show whole


def show_actions(draft: Draft, config: ResolvedConfig, start: Startable) -> None:
    """The row of all that is done less often than to plan and to launch."""
    document, launched = config.document, draft.launches()
    text = document.text
    with st.container(horizontal=True, vertical_alignment="center", key="draft_actions"):
        for name, label, icon, target in (
            ("undo", N_("Undo"), "undo", draft.history.before),
            ("redo", N_("Redo"), "redo", draft.history.after),
        ):
            st.button(
                t(label),
                icon=f":material/{icon}:",
                type="tertiary",
                key=name,
                disabled=target() is None,
                on_click=safely(step),
                args=(draft,),
                kwargs={"forward": name == "redo"},
            )
        with st.popover(t(N_("Copy and export")), icon=":material/output:", type="tertiary"):
            st.download_button(
                t(N_("Download")),
                text,
                file_name="config.yaml",
                mime="application/yaml",
                icon=":material/download:",
                on_click="ignore",
                key="download",
            )
            _copies(draft, text, document.values)
            export_for_another_tool(config)
        if st.button(t(N_("New draft")), icon=":material/add:", type="tertiary", key="new_draft"):
            st.switch_page(CONFIG)
        if launched:
            st.page_link(
                RUNS,
                label=t(N_("Last launched: {id}"), id=launched[-1]),
                icon=":material/show_chart:",
                query_params={addresses.RUN: launched[-1]},
            )
        if not any(is_task(blocker) for blocker in start.blockers):  # it is among the first steps
            name_field(draft)


def launch_when_asked(draft: Draft, config: ResolvedConfig, start: Startable, *, pressed: bool) -> None:
    """What stands in the way of a start, and the start itself where it was asked for."""
    text, launched = config.document.text, len(draft.launches())
    num_nodes = num_nodes_of(config)
    endpoint = meeting_fields(f"meeting-{draft.id}", num_nodes) if num_nodes > 1 else None
    wish = show_blockers(draft, text, start)
    is_asked = st.session_state.pop(session.LAUNCH_ASKED, None) == draft.id
    if pressed or wish or (is_asked and config.result.is_valid and start.answer is not False):
        launch_draft(draft, launched, endpoint, accepts="over" if wish == "anyway" else "fits")
    ask_where_it_is_in_doubt(draft, text, launched, endpoint)


def _copies(draft: Draft, text: str, values: dict[str, Any]) -> None:
    """The draft in three forms, each with Streamlit's own button that copies it."""
    for title, code, language in (
        ("YAML", text, "yaml"),
        (N_("Command"), as_command(values, str(draft.path / "config.yaml"), values), "bash"),
        ("Python", as_python(values), "python"),
    ):
        st.caption(t(title))
        height: int | Literal["content"] = 160 if code.count("\n") > FEW_LINES else "content"
        st.code(visible_lines(code), language=language, height=height, wrap_lines=True)
