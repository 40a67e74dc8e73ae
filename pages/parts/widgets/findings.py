"""The findings of a check on the screen: severity in word, symbol and colour, line, sentence, remedy, a button for each fix."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import streamlit as st

from lora_backend.config.check_report import SEVERITY_WORDS
from lora_backend.config.findings import Finding
from lora_backend.config.rules import FACT_RULES, FILE_RULES, KEY_RULES
from lora_backend.i18n import N_, Plural
from pages.parts.shell.docs import rule_link
from pages.parts.shell.failing import safely
from pages.parts.shell.language import say, t
from pages.parts.shell.markdown import Markdown, bold, joined

BOXES = {"error": st.error, "warning": st.warning, "hint": st.info}
ICONS = {"error": ":material/error:", "warning": ":material/warning:", "hint": ":material/lightbulb:"}
COLORS = {"error": "red", "warning": "orange", "hint": "blue"}
COUNTED = {
    "error": Plural("{count} error", "{count} errors"),
    "warning": Plural("{count} warning", "{count} warnings"),
}
RULES = frozenset(rule.code for rules in (FILE_RULES, KEY_RULES, FACT_RULES) for rule in rules)
"""Findings that docs/rules.md has a section for."""
Mend = Callable[[Mapping[str, Any]], None]


def counted(findings: Sequence[Finding]) -> list[Markdown]:
    """How many errors and warnings there are, each with its symbol and colour; nothing for none."""
    numbers = {severity: sum(finding.severity == severity for finding in findings) for severity in COUNTED}
    return [
        _marked(severity, bold(t(COUNTED[severity], count=number))) for severity, number in numbers.items() if number
    ]


def show_findings(findings: Sequence[Finding], mend: Mend | None = None) -> None:
    """A compact line for each, the worst first; hints are folded. `mend` is called with a finding's fix."""
    for severity in COUNTED:
        group = [(number, finding) for number, finding in enumerate(findings) if finding.severity == severity]
        if group:
            with st.container(border=True, key=f"findings-{severity}", gap="xsmall"):
                for number, finding in group:
                    _line(finding, number, mend)
    hints = [(number, finding) for number, finding in enumerate(findings) if finding.severity == "hint"]
    if hints:
        label = t(Plural("{count} hint", "{count} hints"), count=len(hints))
        with st.expander(label, icon=ICONS["hint"]):
            for number, finding in hints:
                _line(finding, number, mend)


def show_finding(finding: Finding) -> None:
    """One that stands alone, in a box."""
    BOXES[finding.severity](
        f"**{_place(finding)}** · {say(finding.message)}  \n{say(finding.remedy)}", icon=ICONS[finding.severity]
    )


def _line(finding: Finding, number: int, mend: Mend | None) -> None:
    """Symbol, word, line and sentence; below, smaller, the remedy and a button for each fix."""
    with st.container(gap=None):
        st.markdown(joined(" · ", (_marked(finding.severity, bold(_place(finding))), say(finding.message))))
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            st.caption(say(finding.remedy), width="content")
            for place, fix in enumerate(finding.fixes):
                if mend is None:
                    break
                st.button(
                    say(fix.label),
                    icon=":material/build:",
                    on_click=safely(mend),
                    args=(fix.changes,),
                    type="tertiary",
                    key=f"fix-{finding.severity}-{number}-{finding.code}-{place}",
                    help=t(N_("You can undo it.")),
                )
            if finding.code in RULES:
                st.caption(rule_link(finding.code), width="content")


def _place(finding: Finding) -> Markdown:
    word = t(SEVERITY_WORDS[finding.severity])
    return t(N_("{severity}, line {line}"), severity=word, line=finding.line) if finding.line else word


def _marked(severity: str, words: Markdown) -> Markdown:
    return Markdown(f":{COLORS[severity]}[{ICONS[severity]} {words}]")
