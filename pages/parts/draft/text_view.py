"""A draft's text in an editor: YAML's colours, line numbers, and what was found beside its line."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from lora_backend.config.check_report import SEVERITY_WORDS
from lora_backend.config.drafts import Draft
from lora_backend.config.findings import Finding
from lora_backend.escaping import visible
from lora_backend.i18n import N_
from pages.parts.draft import session
from pages.parts.draft.edit import save_text
from pages.parts.shell.failing import safely
from pages.parts.shell.language import say_plain, t, t_plain
from pages.parts.widgets.assets import mount


def text_view(draft: Draft, text: str, findings: Sequence[Finding]) -> None:
    """The text area is Streamlit's own; the component beside it draws over it."""
    revision = st.session_state.setdefault(session.TEXT_REVISION, 0)
    key = f"text-{draft.id}-{revision}"

    def changed() -> None:
        save_text(draft, st.session_state[key], from_text=True)

    with st.container(key="yaml_editor", gap=None):
        st.text_area(
            t(N_("YAML; comments and order are kept")),
            text,
            height=520,
            key=key,
            on_change=safely(changed),
            help=t(
                N_("A change is kept when you leave the field, or press Ctrl and Enter. Tab indents; Escape, then Tab leaves the field.")
            ),
        )  # fmt: skip
        marks = [
            {"line": finding.line, "severity": finding.severity, "says": _says(finding)}
            for finding in findings
            if finding.line
        ]
        mount("yaml_editor", key=f"yaml-{draft.id}", data={"text": text, "marks": marks}, height=1)


def _says(finding: Finding) -> str:
    """The finding in one text, for a tooltip and a screen reader."""
    values = {
        "severity": t_plain(SEVERITY_WORDS[finding.severity]),
        "message": say_plain(finding.message),
        "remedy": say_plain(finding.remedy),
    }
    return visible(t_plain(N_("{severity}: {message} {remedy}"), **values))
