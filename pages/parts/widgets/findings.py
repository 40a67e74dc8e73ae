"""The findings of a check on the screen: severity in word and colour, line, sentence, remedy, and a button for each fix."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import streamlit as st

from lora_backend.config.check import CheckResult
from lora_backend.config.check_report import SEVERITY_WORDS
from lora_backend.config.findings import Finding
from lora_backend.i18n import N_
from pages.parts.shell.failing import safely
from pages.parts.shell.language import say, t
from pages.parts.shell.markdown import bold, joined

BOXES = {"error": st.error, "warning": st.warning, "hint": st.info}
ICONS = {"error": ":material/error:", "warning": ":material/warning:", "hint": ":material/lightbulb:"}
Mend = Callable[[Mapping[str, Any]], None]


def show_findings(result: CheckResult, mend: Mend | None = None, blockers: Sequence[Finding] = ()) -> None:
    """The verdict, then every finding, the worst first; hints are folded. `mend` is called with a finding's fix. What is
    among the `blockers` is said there."""
    blocked = {(blocker.code, blocker.key) for blocker in blockers}
    findings = [finding for finding in result.findings if (finding.code, finding.key) not in blocked]
    counts = {severity: sum(f.severity == severity for f in findings) for severity in BOXES}
    parts = []
    if counts["error"]:
        parts.append(t(N_("Errors: {count}"), count=counts["error"]))
    if counts["warning"]:
        parts.append(t(N_("Warnings: {count}"), count=counts["warning"]))
    if parts:
        st.markdown(bold(joined(" · ", parts)))
    elif not blockers:
        st.success(t(N_("No problems found.")), icon=":material/check_circle:")
    hints = [finding for finding in findings if finding.severity == "hint"]
    for number, finding in enumerate(findings):
        if finding.severity != "hint":
            show_finding(finding)
            _offer(finding, number, mend)
    if hints:
        with st.expander(t(N_("Hints: {count}"), count=len(hints)), icon=":material/lightbulb:"):
            for number, finding in enumerate(hints):
                show_finding(finding)
                _offer(finding, number, mend)


def show_finding(finding: Finding) -> None:
    """One finding."""
    place = t(N_("{severity}, line {line}"), severity=t(SEVERITY_WORDS[finding.severity]), line=finding.line)
    head = place if finding.line else t(SEVERITY_WORDS[finding.severity])
    BOXES[finding.severity](
        f"**{head}** · {say(finding.message)}  \n{say(finding.remedy)}", icon=ICONS[finding.severity]
    )


def _offer(finding: Finding, number: int, mend: Mend | None) -> None:
    if not finding.fixes or mend is None:
        return
    with st.container(horizontal=True):
        for place, fix in enumerate(finding.fixes):
            st.button(
                say(fix.label),
                icon=":material/build:",
                on_click=safely(mend),
                args=(fix.changes,),
                type="secondary" if place == 0 else "tertiary",
                key=f"fix-{finding.severity}-{number}-{finding.code}-{place}",
                help=t(N_("You can undo it.")),
            )
