"""Data: what a model learns from a data set, row by row; what is wrong with it, and how to fix it."""

from __future__ import annotations

from pages.parts.shell.guard import guard

guard()

import streamlit as st

from lora_backend.data.forms import FORM_NAMES, DataFormat, FoundForm, find_form
from lora_backend.data.raw_rows import RawRow
from lora_backend.data.row_file import RowFile, preview_rows
from lora_backend.data.row_search import rows_with
from lora_backend.errors import DataError, FlightdeckError
from lora_backend.i18n import N_
from pages.parts.data.choose import choose_data_and_model, choose_view
from pages.parts.data.counted import Counted, by_number, counted, found, rendered, show_state
from pages.parts.data.download import download_tokens
from pages.parts.data.edits import edits_of, show_pending
from pages.parts.data.empty import show_empty
from pages.parts.data.figures import show_figures
from pages.parts.data.form import show_form
from pages.parts.data.lengths import length_settings, show_lengths
from pages.parts.data.problems import findings_of, num_problems, show_filter, show_problems
from pages.parts.data.question import Question, read_question
from pages.parts.data.rows import PER_PAGE, Shown, row_numbers, rows_of_note, search_bar, show_rows
from pages.parts.data.subject import LOOKED_AT, Subject, subject_of
from pages.parts.data.use import use_in_config
from pages.parts.shell import addresses
from pages.parts.shell.header import page_header
from pages.parts.shell.language import explain, say, t
from pages.parts.shell.navigation import CONFIG

LOADING = N_("The rows show as the model reads them once its tokenizer is loaded.")


def show(question: Question) -> None:
    subject = subject_of(question)
    if subject.no_model is not None:
        st.warning(say(subject.no_model), icon=":material/deployed_code_alert:")
    show_pending(subject)
    state = counted(subject)
    rows = subject.opened(is_counted=state.report is not None)
    first = (
        [rows.row(place) for place in range(min(len(rows), LOOKED_AT))]
        if rows is not None
        else preview_rows(subject.path, LOOKED_AT, split=question.split)
    )
    form = found_form(subject, first)
    show_state(state)
    if state.report is None:
        list_of_rows(subject, state, rows, first, form)
        return
    show_figures(subject, state.report)
    findings = findings_of(subject, state.report)
    view = choose_view(question, num_problems(findings))
    if view == "rows":
        list_of_rows(subject, state, rows, first, form)
    elif view == "lengths":
        length_settings(question)
        if state.report.counts is None:
            st.info(t(N_("Choose a model to count the tokens of each row.")), icon=":material/deployed_code:")
        else:
            show_lengths(state.report.counts)
    else:
        show_problems(subject, state.report, findings)


def actions(subject: Subject) -> None:
    question = subject.question
    with st.container(horizontal=True, vertical_alignment="center", width="content"):
        download_tokens(subject)
        use_in_config(question, has_changes=bool(edits_of(subject.path)))
        if addresses.DRAFT in question.params:
            query = {addresses.DRAFT: question.params[addresses.DRAFT]}
            st.page_link(CONFIG, label=t(N_("Back to the draft")), icon=":material/arrow_back:", query_params=query)


def found_form(subject: Subject, first: list[RawRow]) -> FoundForm | None:
    """The form of the first rows, said and to be changed; None where they have none, which is said as well."""
    columns = list(dict.fromkeys(str(key) for row in first if row.values for key in row.values))[:100]
    asked = subject.data_question
    try:
        form = find_form(first, asked_format(asked.data_format), asked.data_columns, subject.path.name)
    except DataError as error:
        st.error(say(error.message), icon=":material/error:")
        form = None
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        show_form(subject, form, columns)
        actions(subject)
    return form


def asked_format(word: str) -> DataFormat:
    return next((name for name in FORM_NAMES if name == word), "auto")


def list_of_rows(
    subject: Subject, state: Counted, rows: RowFile | None, first: list[RawRow], form: FoundForm | None
) -> None:  # fmt: skip
    """The rows that the address asks for, as soon and as far as they can be shown."""
    question = subject.question
    search_bar(question)
    show_filter(subject, state.report)
    named = None
    if question.search and question.row is None:
        hits = search(subject, rows)
        if isinstance(hits, Counted):
            show_state(hits)
            return
        named, is_whole = hits
        say_hits(len(named), is_whole=is_whole)
    elif question.only and state.report is not None:
        named = rows_of_note(state.report, question.only)
    numbers = row_numbers(question, named)
    if rows is not None:
        raw = [rows.row(number - 1) for number in numbers if number <= len(rows)]
    else:
        raw = [row for row in first if row.number in numbers]
    total = len(named) if named is not None else len(rows) if rows is not None else None
    answer = rendered(subject, [row.number for row in raw]) if subject.model is not None and raw and form else None
    if isinstance(answer, Counted) and answer.dropped is None:
        show_state(answer, LOADING if state.waits_for is not None else None)  # one bar on the page says enough
    written = {} if answer is None or isinstance(answer, Counted) else by_number(answer)
    show_rows(subject, Shown(raw, form, written, total))
    if rows is None and len(raw) < PER_PAGE and question.row is None and len(first) == LOOKED_AT:
        st.caption(t(N_("More rows will show once the whole file has been read.")))


def search(subject: Subject, rows: RowFile | None) -> tuple[list[int], bool] | Counted:
    """Rows that hold the text, and whether these are all: by the torch process, or without a model by this one."""
    if subject.model is None and rows is not None:
        return rows_with(subject.question.search, rows)
    hits = found(subject, subject.question.search)
    return hits if isinstance(hits, Counted) else ([row.row for row in hits.rows], hits.is_whole)


def say_hits(count: int, *, is_whole: bool) -> None:
    st.caption(t(N_("Matches: {count}") if is_whole else N_("The first {count} matches."), count=count))


page_header(t(N_("Data")), t(N_("What a model learns from your data: every row, token by token.")), docs="data")
try:
    asked = read_question()
    choose_data_and_model(asked)
    if asked.dataset:
        show(asked)
    else:
        show_empty()
except (FlightdeckError, OSError) as error:
    st.error(explain(error), icon=":material/error:")
