"""The rows, a page at a time or one alone: as the model reads them, or as plain turns while nobody has written them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import streamlit as st

from lora_backend.data.chat_rows import RowLeftOutError
from lora_backend.data.data_report import DataReport
from lora_backend.data.forms import FoundForm
from lora_backend.data.raw_rows import BadRowError, RawRow, place_of
from lora_backend.data.rendered_row import RenderedRow
from lora_backend.errors import DataError
from lora_backend.escaping import visible_lines
from lora_backend.i18n import N_, Message
from lora_backend.views.row_view import row_message
from pages.parts.data.edits import edits_of, is_open, row_buttons, show_editor, show_line
from pages.parts.data.pieces import show_legend, show_row_text
from pages.parts.data.plain import show_plain
from pages.parts.data.question import Question
from pages.parts.data.subject import Subject
from pages.parts.shell import addresses
from pages.parts.shell.failing import safely
from pages.parts.shell.language import say, t
from pages.parts.shell.markdown import Markdown, bold

BAD = "bad"
"""In the address, in the place of a note: the rows that cannot be trained on."""
PER_PAGE = 10
SEARCH, GO_TO = "data-search", "data-go-to"


@dataclass(frozen=True)
class Shown:
    """The rows of a page of the screen."""

    raw: Sequence[RawRow]
    form: FoundForm | None = None
    """None where the rows are of no form that is known."""
    rendered: Mapping[int, RenderedRow] = field(default_factory=dict)
    """Number → row, of those that the model's template has written."""
    total: int | None = None
    """Of all that could be shown, page by page; None where nobody has counted."""


def row_numbers(question: Question, named: Sequence[int] | None) -> list[int]:
    """Which rows the address asks for; `named`: only of these."""
    if question.row is not None:
        return [question.row]
    first = (question.page - 1) * PER_PAGE
    if named is not None:
        return list(named[first : first + PER_PAGE])
    return list(range(first + 1, first + PER_PAGE + 1))


def rows_of_note(report: DataReport, code: str) -> list[int]:
    """The first rows of which that is said; of a code that is none of ours, none."""
    if code == BAD:
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
        st.number_input(
            t(N_("Go to row")), min_value=1, step=1, value=None, key=GO_TO, width=160, on_change=safely(_go_to)
        )


def show_rows(subject: Subject, shown: Shown) -> None:
    """The rows that the address asks for."""
    if shown.rendered:
        show_legend()
    if not shown.raw:
        st.info(t(N_("No such row.")), icon=":material/search_off:")
    for row in shown.raw:
        with st.container(border=True, key=f"row-{row.number}"):
            rendered = shown.rendered.get(row.number)
            _head(subject, row, rendered)
            if is_open(subject.path, row.number):
                _reason(row, shown.form)
                show_editor(subject, row)
            else:
                _body(subject, row, rendered, shown.form)
    _pager(subject.question, len(shown.raw), shown.total)


def problem_of(row: RawRow, form: FoundForm | None) -> Message | None:
    """Why a row cannot be trained on, as far as it can be told without a tokenizer."""
    if row.problem is not None:
        return row.problem
    try:
        if form is not None and row.values is not None:
            form.example(row.values)
    except BadRowError as error:
        return error.message
    except (DataError, RowLeftOutError):
        pass
    return None


def _head(subject: Subject, row: RawRow, rendered: RenderedRow | None) -> None:
    edits = edits_of(subject.path)
    with st.container(horizontal=True, vertical_alignment="center"):
        with st.container(width="stretch", gap=None):
            st.markdown(_title(row, rendered))
        if row.number in edits:
            if edits[row.number] is None:
                st.badge(t(N_("left out")), color="orange", icon=":material/remove_circle:")
            else:
                st.badge(t(N_("changed")), color="blue", icon=":material/edit:")
        if subject.question.row is None:
            st.button(
                t(N_("Open")),
                icon=":material/open_in_full:",
                type="tertiary",
                key=f"open-{row.number}",
                on_click=safely(_set),
                args=(addresses.ROW, row.number),
            )
        row_buttons(subject.path, row.number)


def _title(row: RawRow, rendered: RenderedRow | None) -> Markdown:
    if rendered is not None and rendered.pieces:
        return bold(say(row_message(rendered)))
    return bold(t(N_("Row {row}"), row=row.number))


def _body(subject: Subject, row: RawRow, rendered: RenderedRow | None, form: FoundForm | None) -> None:
    changed = edits_of(subject.path).get(row.number)
    if changed is not None:
        st.code(visible_lines(changed), language="json", wrap_lines=True)
        return
    if not _reason(row, form) and rendered is not None and rendered.note is not None:
        st.warning(say(rendered.note), icon=":material/warning:")
    alone = subject.question.row is not None
    if rendered is not None and rendered.pieces:
        show_row_text(rendered, alone=alone)
    elif row.values is not None:
        show_plain(row, form, alone=alone)
    else:
        show_line(subject, row)


def _reason(row: RawRow, form: FoundForm | None) -> bool:
    """Say why a row cannot be trained on; whether there was something to say."""
    problem = problem_of(row, form)
    if problem is not None:
        st.error(say(place_of(row.bad(problem))), icon=":material/error:")
    return problem is not None


def _pager(question: Question, num_shown: int, total: int | None) -> None:
    """Back, forward, and where this is."""
    if question.row is not None:
        with st.container(horizontal=True, horizontal_alignment="distribute"):
            _step(N_("Previous"), "left", addresses.ROW, question.row - 1, is_last=question.row <= 1)
            st.button(
                t(N_("All rows")),
                icon=":material/view_list:",
                key="all_rows",
                on_click=safely(_set),
                args=(addresses.ROW, None),
            )
            _step(N_("Next"), "right", addresses.ROW, question.row + 1, is_last=num_shown == 0)
        return
    last = None if total is None else max((total + PER_PAGE - 1) // PER_PAGE, 1)
    is_last = question.page >= last if last is not None else num_shown < PER_PAGE
    if question.page == 1 and is_last:
        return
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        _step(N_("Previous"), "left", addresses.PAGE, question.page - 1, is_last=question.page <= 1)
        if last is None:
            st.caption(t(N_("Page {page}"), page=question.page), width="content")
        else:
            st.caption(t(N_("Page {page} of {last}"), page=question.page, last=f"{last:,}"), width="content")
        _step(N_("Next"), "right", addresses.PAGE, question.page + 1, is_last=is_last)


def _step(label: str, side: str, name: str, value: int, *, is_last: bool) -> None:
    st.button(
        t(label),
        icon=f":material/chevron_{side}:",
        key=f"{name}_{side}",
        disabled=is_last,
        on_click=safely(_set),
        args=(name, value),
    )


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
