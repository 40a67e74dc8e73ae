"""A check's result as text for a terminal."""

from __future__ import annotations

from collections.abc import Iterable

from lora_backend.config.check import CheckResult
from lora_backend.config.diff import ABSENT, DiffRow
from lora_backend.config.findings import Finding
from lora_backend.config.foreign.notice import FOREIGN
from lora_backend.config.short_values import in_short
from lora_backend.i18n import N_, Message, Plural, translate
from lora_backend.terminal import in_lines

SIGNS = {"error": "✗", "warning": "⚠", "hint": "·"}
DIFF_SIGNS = {"changed": "~", "added": "+", "missing": "-", "unknown": "?", "equal": "="}
SEVERITY_WORDS = {"error": N_("error"), "warning": N_("warning"), "hint": N_("hint")}
DIFF_WORDS = {
    "changed": N_("changed"),
    "added": N_("added"),
    "missing": N_("missing"),
    "unknown": N_("unknown"),
    "equal": N_("equal"),
}


def report_text(result: CheckResult, language: str | None = None) -> str:
    """Verdict, findings with line and remedy, differences from the defaults, keys left to them."""

    def t(template: str, **values: object) -> str:
        return Message(template, values).text(language)

    errors = len(result.errors)
    warnings = sum(finding.severity == "warning" for finding in result.findings)
    verdict = N_("The config is valid.") if result.is_valid else N_("The config is not valid.")
    lines = [
        t(verdict)
        + " "
        + t(
            N_("{errors}, {warnings}."),
            errors=Message(Plural("{count} error", "{count} errors"), {"count": errors}),
            warnings=Message(Plural("{count} warning", "{count} warnings"), {"count": warnings}),
        )
    ]
    lines += finding_lines(result.findings, language)
    if any(finding.code == FOREIGN for finding in result.findings):
        return in_lines(lines)  # what it says is told by its conversion
    lines += ["", t(N_("Differences from the defaults of train_lora:"))]
    for key, pair in result.differences.items():
        default, value = (in_short(key, pair[side], language=language) for side in ("default", "value"))
        lines.append(f"  {key}: {default} → {value}")
    if not result.differences:
        lines.append("  " + t(N_("nothing")))
    if result.missing:
        lines += ["", t(N_("Left at their defaults: {keys}"), keys=", ".join(result.missing))]
    return in_lines(lines)


def finding_lines(findings: Iterable[Finding], language: str | None = None) -> list[str]:
    """A line for each finding, with its place, remedy and code; below it a line for each fix."""
    lines = []
    for finding in findings:
        place = translate(N_("line {line}"), language).format(line=finding.line) + ": " if finding.line else ""
        said = f"{finding.message.text(language)} {finding.remedy.text(language)}"
        lines.append(f"{SIGNS[finding.severity]} {place}{said} [{finding.code}]")
        fix_template = translate(N_("Fix: {label}"), language)
        lines += ["    " + fix_template.format(label=fix.label.text(language)) for fix in finding.fixes]
    return lines


def diff_text(rows: list[DiffRow], language: str | None = None) -> str:
    """The rows that differ, one a line, with sign and word."""
    lines = []
    for row in rows:
        if row.status == "equal":
            continue
        base, value = (
            "–" if side is ABSENT else in_short(row.key, side, language=language) for side in (row.base, row.value)
        )
        lines.append(
            f"{DIFF_SIGNS[row.status]} {row.key}: {base} → {value} ({translate(DIFF_WORDS[row.status], language)})"
        )
    return in_lines(lines) or translate(N_("nothing"), language)
