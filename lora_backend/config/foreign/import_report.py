"""What an import or export did, as text for a terminal: one line for each key."""

from __future__ import annotations

from lora_backend.config.check_report import SIGNS
from lora_backend.config.foreign.outcomes import ExportResult, ImportResult, ImportRow
from lora_backend.config.short_values import in_short
from lora_backend.i18n import N_, Message, translate
from lora_backend.terminal import in_lines

OUTCOME_SIGNS = {"taken": "=", "translated": "→", "not_supported": "✗", "not_needed": "·", "unknown": "?"}
OUTCOME_WORDS = {
    "taken": N_("taken"),
    "translated": N_("translated"),
    "not_supported": N_("not supported"),
    "not_needed": N_("not needed here"),
    "unknown": N_("unknown"),
}
"""Sign and word of each outcome; the word is what a screen reader has."""

ALL_WRITTEN = N_("Everything was exported for {title}.")
NOT_CARRIED = N_("Not carried over to {title}:")
TO_CHECK = N_("Check before you use it with {title}:")


def import_report(result: ImportResult, language: str | None = None) -> str:
    """The tool, every key with line and outcome, the tool's own defaults, and what a check says of the result."""
    lines = [Message(N_("A {title} config."), {"title": result.title}).text(language)]
    lines += [_row(row, language) for row in result.rows]
    if result.assumed:
        lines += ["", translate(N_("Not in the file, but with another default there:"), language)]
        lines += [_row(row, language) for row in result.assumed]
    findings = [finding for finding in result.findings if finding.severity != "hint"]
    if findings:
        lines += ["", translate(N_("Check of the result:"), language)]
    for finding in findings:
        lines.append(f"{SIGNS[finding.severity]} {finding.message.text(language)} {finding.remedy.text(language)}")
    return in_lines(lines)


def export_report(result: ExportResult, language: str | None = None) -> str:
    """What could not be carried, and what should be looked at, key by key."""
    lines = []
    for rows, heading, sign in (
        (result.lost, NOT_CARRIED, OUTCOME_SIGNS["not_supported"]),
        (result.guesses, TO_CHECK, OUTCOME_SIGNS["translated"]),
    ):
        lines += [Message(heading, {"title": result.title}).text(language)] if rows else []
        lines += [
            f"{sign} {row.key}: {in_short(row.key, row.value, language=language)}. {row.message.text(language)}"
            for row in rows
        ]
    return in_lines(lines or [Message(ALL_WRITTEN, {"title": result.title}).text(language)])


def _row(row: ImportRow, language: str | None) -> str:
    place = Message(N_("line {line}"), {"line": row.line}).text(language) + " " if row.line else ""
    word = translate(OUTCOME_WORDS[row.shown_as], language)
    return f"{OUTCOME_SIGNS[row.shown_as]} {place}{row.key}: {in_short(row.key, row.value, 40, language)} ({word}) {row.message.text(language)}"
