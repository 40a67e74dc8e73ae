"""The findings of a check on the screen: severity in word and colour, line, sentence, remedy."""

from __future__ import annotations

import streamlit as st

from lora_backend.config.check import CheckResult
from lora_backend.config.findings import Finding
from lora_backend.config.report import SEVERITY_WORDS
from lora_backend.i18n import N_
from pages.parts.language import say, t

BOXES = {"error": st.error, "warning": st.warning, "hint": st.info}
ICONS = {"error": ":material/error:", "warning": ":material/warning:", "hint": ":material/lightbulb:"}


def show_findings(result: CheckResult) -> None:
    """The verdict, then every finding, the worst first."""
    if not result.findings:
        st.success(t(N_("Nothing is wrong with this config.")), icon=":material/check_circle:")
        return
    counts = {severity: sum(f.severity == severity for f in result.findings) for severity in BOXES}
    parts = []
    if counts["error"]:
        parts.append(t(N_("{count} errors"), count=counts["error"]))
    if counts["warning"]:
        parts.append(t(N_("{count} warnings"), count=counts["warning"]))
    st.markdown("**" + " · ".join(parts) + "**")
    for finding in result.findings:
        show_finding(finding)


def show_finding(finding: Finding) -> None:
    """One finding."""
    place = t(N_("{severity}, line {line}"), severity=t(SEVERITY_WORDS[finding.severity]), line=finding.line)
    head = place if finding.line else t(SEVERITY_WORDS[finding.severity])
    BOXES[finding.severity](
        f"**{head}** · {say(finding.message)}  \n{say(finding.remedy)}", icon=ICONS[finding.severity]
    )
