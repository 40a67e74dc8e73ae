"""What was counted of the data set: from the disk at once where it is known, else asked of the torch process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import streamlit as st

from lora_backend.data.data_report import DataReport, report_of
from lora_backend.data.rendered_row import RenderedRow, RenderedRows, rows_of
from lora_backend.errors import FlightdeckError
from lora_backend.i18n import N_
from lora_backend.worker.methods import METHODS
from pages.parts.data.asking import answer_to, is_dropped, key_of, offer_again, show_progress
from pages.parts.data.subject import Subject
from pages.parts.shell.language import t


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
    """Of the whole data set."""
    answer = _asked(subject, "count_data", {})
    return answer if isinstance(answer, Counted) else Counted(report_of(answer))


def rendered(subject: Subject, rows: list[int]) -> RenderedRows | Counted:
    """These rows as the model's template writes them."""
    answer = _asked(subject, "show_rows", {"rows": rows})
    return answer if isinstance(answer, Counted) else rows_of(answer)


def found(subject: Subject, text: str) -> RenderedRows | Counted:
    """Rows that hold `text`."""
    answer = _asked(subject, "show_rows", {"search": text})
    return answer if isinstance(answer, Counted) else rows_of(answer)


def can_be_asked(method: str) -> bool:
    """Whether this version's torch process knows the question."""
    return method in METHODS


def by_number(rows: RenderedRows) -> dict[int, RenderedRow]:
    """Number → row."""
    return {row.row: row for row in rows.rows}


def show_state(state: Counted) -> None:
    """How far the question is, or a button that puts it again."""
    if state.waits_for is not None:
        show_progress(state.waits_for)
    elif state.dropped is not None:
        with st.container(horizontal=True, vertical_alignment="center"):
            st.caption(t(N_("Counting was cancelled.")), width="content")
            offer_again(state.dropped)
    elif state.failed is not None:
        offer_again(*state.failed)


def _asked(subject: Subject, method: str, more: dict[str, Any]) -> Any:
    if not can_be_asked(method):
        return Counted()
    params = {**subject.data_question.to_json(), **more}
    try:
        key, answer = answer_to(method, params, subject.files)
    except FlightdeckError as error:
        return Counted(failed=(key_of(method, params, subject.files), error))
    if answer is not None:
        return answer
    return Counted(dropped=key) if is_dropped(key) else Counted(waits_for=key)
