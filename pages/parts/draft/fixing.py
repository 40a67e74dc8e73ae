"""*Fix all*: what it would change, shown before it is done, and done as one edit that one *Undo* takes back."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

import streamlit as st

from lora_backend.config.config_text import ConfigDocument
from lora_backend.config.drafts import Draft
from lora_backend.config.findings import Finding
from lora_backend.config.fix_all import AllFixed, fix_all
from lora_backend.config.foreign.notice import FOREIGN
from lora_backend.escaping import visible_lines
from lora_backend.i18n import N_, Plural
from lora_backend.preflight.startable import judge
from pages.parts.draft.edit import save_text
from pages.parts.draft.foreign_import import keep_source
from pages.parts.shell.failing import sheltered
from pages.parts.shell.language import say, t
from pages.parts.shell.services import resolved


def ask_to_fix_all(draft: Draft, document: ConfigDocument) -> None:
    """Open the dialog."""
    with st.spinner(t(N_("Trying the fixes …"))):
        found = fix_all(document, _look)
    st.dialog(t(N_("Fix all")), width="large")(_preview)(draft, document, found)


def _look(document: ConfigDocument) -> Sequence[Finding]:
    """Errors and warnings of the text, then what keeps it from starting on this machine."""
    judged = judge(resolved(document))
    return (*judged.result.findings, *judged.blockers)


@sheltered()
def _preview(draft: Draft, document: ConfigDocument, found: AllFixed) -> None:
    lines = difflib.unified_diff(document.text.splitlines(), found.text.splitlines(), lineterm="", n=1)
    without_file_names = list(lines)[2:]
    st.code(visible_lines("\n".join(without_file_names)), language="diff", wrap_lines=True)
    with st.container(horizontal=True):
        label = t(Plural("Apply {count} fix", "Apply {count} fixes"), count=len(found.applied))
        if st.button(label, type="primary", icon=":material/build:", key="apply_all", help=t(N_("You can undo it."))):
            if any(finding.code == FOREIGN for finding, _ in found.applied):
                keep_source(draft, "config.yaml", document.text)
            save_text(draft, found.text)
            st.rerun()
        if st.button(t(N_("Cancel")), key="cancel_fix_all"):
            st.rerun()
    with st.expander(t(N_("What each fix does")), icon=":material/build:"), st.container(gap=None):
        for _, fix in found.applied:
            st.markdown(say(fix.label))
    if found.left:
        count = len(found.left)
        label = t(Plural("{count} problem is left for you", "{count} problems are left for you"), count=count)
        with st.expander(label, icon=":material/person:", expanded=True):
            for finding in found.left:
                st.caption(say(finding.message))
