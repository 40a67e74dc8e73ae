"""The rows, a page at a time or one alone: as the model reads them, or as plain turns while nobody has written them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import streamlit as st

from lora_backend.data.data_report import DataReport
from lora_backend.data.rendered_row import RenderedRow
from lora_backend.data.row_text import RowText, rows_by_number
from lora_backend.escaping import visible_lines
from lora_backend.i18n import N_
from lora_backend.views.row_view import row_message
from pages.parts.data.edits import edits_of, is_open, row_buttons, show_editor
from pages.parts.data.pieces import show_legend, show_row_text
from pages.parts.data.plain import show_plain
from pages.parts.data.question import Question
from pages.parts.data.subject import Subject
from pages.parts.shell import addresses
from pages.parts.shell.failing import safely
from pages.parts.shell.language import say, t
from pages.parts.shell.markdown import bold
from pages.parts.shell.navigation import DATA

PER_PAGE = 10
SEARCH, GO_TO = "data-search", "data-go-to"


def row_numbers(question: Question, report: DataReport | None) -> list[int]:
    """Which rows the address asks for."""
    if question.row is not None:
        return [question.row]
    first = (question.page - 1) * PER_PAGE + 1
    if question.only and report is not None:
        named = rows_of_note(report, question.only)
        return named[first - 1 : first - 1 + PER_PAGE]
    return list(range(first, first + PER_PAGE))


def rows_of_note(report: DataReport, code: str) -> list[int]:
    """The first rows of which that is said; of a code that is none of ours, none."""
    if code == "bad":
        return sorted({bad.row for bad in report.bad_rows})
    return sorted({row for note in report.notes if note.code == code for row in note.rows})


def search_bar(question: Question) -> None:
    """Look for a text, or go to a row."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        if st.session_state.get(SEARCH, None) != question.search:
            st.session_state[SEARCH] = question.search
        st.text_input(
            t(N_("Search the rows")), key=SEARCH, icon=":material/search:", on_change=safely(_search), max_chars=200
        )
        if st.session_state.get(GO_TO, 0) != question.row:
            st.session_state[GO_TO] = question.row
        st.number_input(t(N_("Go to row")), min_value=1, step=1, value=None, key=GO_TO, width=160, on_change=safely(_go_to))  # fmt: skip


def show_rows(
    subject: Subject, raw: Sequence[RowText], rendered: Mapping[int, RenderedRow], report: DataReport | None, total: int | None
) -> None:  # fmt: skip
    """The rows that the address asks for. `total`: of all that could be asked for; None where nobody has counted."""
    alone = subject.question.row is not None
    if rendered:
        show_legend()
    if not raw:
        st.info(t(N_("There is no such row.")), icon=":material/search_off:")
    bad = {one.row: one.message for one in report.bad_rows} if report is not None else {}
    for row in raw:
        with st.container(border=True, key=f"row-{row.number}"):
            _head(subject, row, rendered.get(row.number))
            if is_open(subject.path, row.number):
                show_editor(subject.path, row)
                continue
            problem = bad.get(row.number) or row.problem
            if problem is not None and row.number not in edits_of(subject.path):
                st.error(say(problem), icon=":material/error:")
            _body(subject, row, rendered.get(row.number), alone=alone)
    _pager(subject.question, len(raw), total)


def raw_rows(subject: Subject, numbers: Sequence[int]) -> list[RowText]:
    """The rows as their file has them."""
    return list(rows_by_number(subject.path, numbers))


def _head(subject: Subject, row: RowText, rendered: RenderedRow | None) -> None:
    edits = edits_of(subject.path)
    with st.container(horizontal=True, vertical_alignment="center"):
        with st.container(width="stretch", gap=None):
            is_counted = rendered is not None and bool(rendered.pieces)
            st.markdown(
                say(row_message(rendered)) if rendered and is_counted else bold(t(N_("Row {row}"), row=row.number))
            )
        if row.number in edits:
            if edits[row.number] is None:
                st.badge(t(N_("left out")), color="orange", icon=":material/remove_circle:")
            else:
                st.badge(t(N_("changed")), color="blue", icon=":material/edit:")
        if subject.question.row is None:
            st.page_link(
                DATA,
                label=t(N_("Open")),
                icon=":material/open_in_full:",
                query_params=_with(subject.question, row=row.number),
            )
        row_buttons(subject.path, row.number)


def _body(subject: Subject, row: RowText, rendered: RenderedRow | None, *, alone: bool) -> None:
    edits = edits_of(subject.path)
    changed = edits.get(row.number)
    if changed is not None:
        st.code(visible_lines(changed), language="json", wrap_lines=True)
        return
    if rendered is not None and rendered.note is not None:
        st.warning(say(rendered.note), icon=":material/warning:")
    if rendered is not None and rendered.pieces:
        show_row_text(rendered, alone=alone)
    else:
        show_plain(row, alone=alone)


def _pager(question: Question, num_shown: int, total: int | None) -> None:
    """Back, forward, and where this is."""
    if question.row is not None:
        with st.container(horizontal=True, horizontal_alignment="distribute"):
            st.button(t(N_("Previous")), icon=":material/chevron_left:", key="row_before", disabled=question.row <= 1, on_click=safely(_set), args=(addresses.ROW, question.row - 1))  # fmt: skip
            st.button(t(N_("All rows")), icon=":material/view_list:", key="all_rows", on_click=safely(_set), args=(addresses.ROW, None))  # fmt: skip
            st.button(t(N_("Next")), icon=":material/chevron_right:", key="row_after", disabled=total is not None and question.row >= total, on_click=safely(_set), args=(addresses.ROW, question.row + 1))  # fmt: skip
        return
    last = None if total is None else max((total + PER_PAGE - 1) // PER_PAGE, 1)
    is_last = question.page >= last if last is not None else num_shown < PER_PAGE
    if question.page == 1 and is_last:
        return
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.button(t(N_("Previous")), icon=":material/chevron_left:", key="page_before", disabled=question.page <= 1, on_click=safely(_set), args=(addresses.PAGE, question.page - 1))  # fmt: skip
        if last is None:
            st.caption(t(N_("Page {page}"), page=question.page), width="content")
        else:
            st.caption(t(N_("Page {page} of {last}"), page=question.page, last=f"{last:,}"), width="content")
        st.button(t(N_("Next")), icon=":material/chevron_right:", key="page_after", disabled=is_last, on_click=safely(_set), args=(addresses.PAGE, question.page + 1))  # fmt: skip


def _with(question: Question, **more: object) -> dict[str, str]:
    return {**question.params, **{name: str(value) for name, value in more.items()}}


def _search() -> None:
    for name in (addresses.PAGE, addresses.ROW, addresses.ONLY):
        st.query_params.pop(name, None)
    _set(addresses.SEARCH, (st.session_state[SEARCH] or "").strip() or None)


def _go_to() -> None:
    _set(addresses.ROW, st.session_state[GO_TO])


def _set(name: str, value: object) -> None:
    if value is None or (name == addresses.PAGE and value == 1):
        st.query_params.pop(name, None)
    else:
        st.query_params[name] = str(value)
