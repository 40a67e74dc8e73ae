"""What was counted of the data set: from the disk at once where it is known, else asked of the torch process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import streamlit as st

from lora_backend.data.data_report import DataReport, report_of
from lora_backend.data.kept_reports import find_report
from lora_backend.data.rendered_row import RenderedRow, RenderedRows, rows_of
from lora_backend.data.row_report import open_asked, row_report
from lora_backend.errors import DataError, FlightdeckError
from lora_backend.i18n import N_
from pages.parts.data.asking import answer_to, is_dropped, key_of, offer_again, show_progress
from pages.parts.data.subject import Subject
from pages.parts.shell.language import t

SCANNED_AT_ONCE = 2 * 2**20
"""Bytes of rows that are looked through in a moment, where no tokenizer is needed."""


@dataclass(frozen=True)
class Counted:
    """The answer, or how it is that there is none."""

    report: DataReport | None = None
    waits_for: str | None = None
    """The question that is under way."""
    dropped: str | None = None
    """The question that the reader cancelled."""
    failed: tuple[str, FlightdeckError] | None = None
    """The question, and why it has no answer."""


def counted(subject: Subject) -> Counted:
    """Of the whole data set; at once where somebody has counted the same rows before."""
    rows = subject.rows_at_once
    if rows is not None:
        kept = find_report(subject.data_question, rows.sha256, subject.named.installation)
        if kept is not None:
            return Counted(kept)
        if subject.model is None and subject.size_bytes <= SCANNED_AT_ONCE:
            return _scanned(subject)
    answer = _asked(subject, "count_data", {})
    return answer if isinstance(answer, Counted) else Counted(report_of(answer))


def _scanned(subject: Subject) -> Counted:
    """All but tokens, of a small set; why it cannot be read the page says of its first rows."""
    try:
        examples = open_asked(subject.data_question, subject.named.installation)
    except DataError:
        return Counted()
    try:
        return Counted(row_report(subject.data_question, examples))
    finally:
        examples.close()


def rendered(subject: Subject, rows: list[int]) -> RenderedRows | Counted:
    """These rows as the model's template writes them."""
    answer = _asked(subject, "show_rows", {"rows": rows})
    return answer if isinstance(answer, Counted) else rows_of(answer)


def found(subject: Subject, text: str) -> RenderedRows | Counted:
    """Rows that hold `text`."""
    answer = _asked(subject, "show_rows", {"search": text})
    return answer if isinstance(answer, Counted) else rows_of(answer)


def tokens(subject: Subject) -> dict[str, Any] | Counted:
    """The first rows as they are trained, as lines of JSON."""
    answer: dict[str, Any] | Counted = _asked(subject, "write_tokens", {})
    return answer


def by_number(rows: RenderedRows) -> dict[int, RenderedRow]:
    """Number → row."""
    return {row.row: row for row in rows.rows}


def show_state(state: Counted, waiting: str | None = None) -> None:
    """How far the question is, or a button that puts it again. `waiting`: a sentence in the place of a bar."""
    if state.waits_for is not None:
        show_progress(state.waits_for, waiting)
    elif state.dropped is not None:
        with st.container(horizontal=True, vertical_alignment="center"):
            st.caption(t(N_("Counting was cancelled.")), width="content")
            offer_again(state.dropped)
    elif state.failed is not None:
        offer_again(*state.failed)


def _asked(subject: Subject, method: str, more: dict[str, Any]) -> Any:
    params = {**subject.data_question.to_json(), **more}
    try:
        key, answer = answer_to(method, params, subject.files)
    except FlightdeckError as error:
        return Counted(failed=(key_of(method, params, subject.files), error))
    if answer is not None:
        return answer
    return Counted(dropped=key) if is_dropped(key) else Counted(waits_for=key)
