"""What is wrong with the data set: bad rows with their numbers, and all that a check finds, each with its rows in one click."""

from __future__ import annotations

import streamlit as st

from lora_backend.config.findings import Finding
from lora_backend.config.rules import ConfigView, Facts
from lora_backend.config.rules.row_facts import OF_NOTES
from lora_backend.data.data_report import DataReport, NoteCode
from lora_backend.i18n import N_, Message, Plural
from lora_backend.views.data_view import bad_row_table, data_findings, more_bad_rows
from lora_backend.views.table import Table, cell_text
from pages.parts.data.choose import show_part
from pages.parts.data.edits import edits_of, leave_out
from pages.parts.data.rows import BAD, rows_of_note
from pages.parts.data.subject import Subject
from pages.parts.shell import addresses
from pages.parts.shell.failing import safely
from pages.parts.shell.language import say, t
from pages.parts.shell.markdown import joined
from pages.parts.widgets.findings import show_finding
from pages.parts.widgets.tables import scrolling_table, wrapping_table

CUTS: dict[str, NoteCode] = {
    "rows_cut": "cut",
    "rows_without_end": "without_end",
    "rows_behind_cut": "behind_cut",
    "rows_too_long": "cut",
}
NOTE_OF: dict[str, NoteCode] = {
    **CUTS,
    "nothing_to_train_on": "behind_cut",
    "template_refuses_rows": "refused",
    "refused_rows_left_out": "refused",
    **{rule.code: code for code, rule in OF_NOTES.items()},
}
"""Code of a finding → of the note that has its rows."""
OF_BAD_ROWS = ("too_many_bad_rows", "bad_rows_left_out")
LEFT_OUT = (BAD, "duplicate", "refused", "empty_answer", "all_prompt", "behind_cut")
"""Of these a person may want to be rid."""
WRAPPED = 20
"""Rows up to which a table shows whole sentences."""


def findings_of(subject: Subject, report: DataReport) -> tuple[Finding, ...]:
    """All that is to be said of the rows."""
    config = ConfigView({key: value for key, value in subject.named.values.items() if value is not None})
    description = subject.named.description
    facts = Facts(
        num_rows=report.rows,
        data_reports={subject.path.name: report},
        max_positions=None if description is None else description.max_positions,
    )
    return data_findings(config, facts)


def num_problems(findings: tuple[Finding, ...]) -> int:
    """For the title of the view."""
    return sum(finding.severity != "hint" for finding in findings)


def show_problems(subject: Subject, report: DataReport, findings: tuple[Finding, ...]) -> None:
    """All findings, what weighs most first; with their rows in one click, and of bad ones the reasons."""
    if not findings:
        st.success(t(N_("No problems found.")), icon=":material/check_circle:")
    offered: set[str] = set()
    for number, finding in enumerate(sorted(findings, key=lambda finding: finding.code not in OF_BAD_ROWS)):
        show_finding(finding)
        code = BAD if finding.code in OF_BAD_ROWS else NOTE_OF.get(finding.code)
        rows = [] if code is None else rows_of_note(report, code)
        if code is None or not rows or code in offered:
            continue
        offered.add(code)
        with st.container(horizontal=True, key=f"finding-rows-{number}"):
            _link(code, len(rows))
            if code in LEFT_OUT:
                _leave_out(subject, code, rows)
        if code == BAD:
            _table(bad_row_table(report))
            st.caption(say(more_bad_rows(report)))


def _table(table: Table) -> None:
    """Whole sentences, or of many rows a table that scrolls."""
    if len(table.rows) > WRAPPED:
        scrolling_table(table)
        return
    cells = [[say(cell) if isinstance(cell, Message) else str(cell_text(cell)) for cell in row] for row in table.rows]
    wrapping_table(
        [say(head) for head in table.heads], cells, [""] * len(cells)
    )  # all are bad: no colour tells them apart


def _link(code: str, count: int) -> None:
    st.button(
        t(Plural("Show {count} row", "Show {count} rows"), count=count),
        icon=":material/view_list:",
        key=f"show-{code}",
        on_click=safely(show_part),
        kwargs={addresses.ONLY: code},
    )


def _leave_out(subject: Subject, code: str, rows: list[int]) -> None:
    edits = edits_of(subject.path)
    left = [row for row in rows if row not in edits]
    st.button(
        t(Plural("Leave out {count} row", "Leave out {count} rows"), count=len(left)),
        icon=":material/remove_circle:",
        type="tertiary",
        key=f"leave-all-{code}",
        disabled=not left,
        on_click=safely(leave_out),
        args=(subject.path, *left),
    )


def show_filter(subject: Subject, report: DataReport | None) -> None:
    """Which rows are shown while the address asks for some, and the way back to all."""
    code = subject.question.only
    if not code:
        return
    words = {
        BAD: N_("Only rows that cannot be trained on."),
        "cut": N_("Only rows that are cut."),
        "without_end": N_("Only rows that lose the end of their last answer."),
        "behind_cut": N_("Only rows without trained tokens."),
        "duplicate": N_("Only rows that repeat an earlier one."),
        "refused": N_("Only rows that the chat template refuses."),
    }
    with st.container(horizontal=True, vertical_alignment="center"):
        parts = [t(words.get(code, N_("Only rows with this finding.")))]
        if report is not None and any(note.code == code and note.count > len(note.rows) for note in report.notes):
            parts.append(t(N_("The first hundred are listed.")))
        st.caption(joined(" ", parts), width="content")
        st.button(
            t(N_("Show all rows")),
            icon=":material/close:",
            type="tertiary",
            key="all_of_them",
            on_click=safely(show_part),
        )
