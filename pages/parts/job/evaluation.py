"""What an evaluation found: the loss before and after, right answers, the rows that changed most, answers side by side."""

from __future__ import annotations

import json
from collections.abc import Sequence

import streamlit as st

from lora_backend.escaping import visible_lines
from lora_backend.i18n import N_, Message, Plural
from lora_backend.runs.history.evaluations import answers_in
from lora_backend.runs.record.evaluation_documents import ColumnAnswer, EvaluatedAnswer, EvaluateResult, RowChange
from lora_backend.runs.record.run_store import RunStore
from lora_backend.views.evaluation_view import (
    answers_csv,
    changed_table,
    columns_table,
    groups_table,
    headline,
    rows_message,
)
from pages.parts.shell.language import say, t
from pages.parts.shell.markdown import Markdown, bold, escape
from pages.parts.widgets.tables import scrolling_table

MOST_OPEN, MOST_SHOWN = 10, 50
"""Answers that stand open, and on the page at all; the file has all."""


def show_evaluation(run: RunStore) -> None:
    """The result of an evaluation; nothing before its end."""
    result = run.read_result(EvaluateResult)
    if result is None:
        return
    for message in headline(result):
        st.header(say(message), anchor=False)
    rows = rows_message(result)
    if rows is not None:
        st.caption(say(rows))
    for note in result.notes:
        st.info(say(note), icon=":material/info:")
    scrolling_table(columns_table(result))
    if result.rows is not None:
        st.caption(t(N_("In brackets: 95% confidence intervals from 10,000 bootstrap resamples of the rows.")))
    groups = groups_table(result)
    if groups is not None:
        scrolling_table(groups)
    _changes(result)
    answers = answers_in(run)
    _downloads(run, result, answers)
    _answers(answers, [column.label for column in result.columns])


def _changes(result: EvaluateResult) -> None:
    for changes in result.changes:
        if not (changes.better or changes.worse):
            continue
        title = t(N_("Rows that changed most: {column}"), column=changes.label)
        with st.expander(title):
            for label, rows in ((N_("Better"), changes.better), (N_("Worse"), changes.worse)):
                _changed(Message(label), rows)


def _changed(label: Message, rows: Sequence[RowChange]) -> None:
    st.markdown(bold(label))
    if rows:
        scrolling_table(changed_table(rows))
    else:
        st.caption(t(N_("None.")))


def _answers(answers: Sequence[EvaluatedAnswer], labels: Sequence[str]) -> None:
    for answer in answers[:MOST_OPEN]:
        _answer(answer, labels)
    folded = answers[MOST_OPEN:MOST_SHOWN]
    if not folded:
        return
    with st.expander(t(Plural("{count} more answer", "{count} more answers"), count=len(answers) - MOST_OPEN)):
        for answer in folded:
            _answer(answer, labels)
        if len(answers) > MOST_SHOWN:
            said = N_("The first {shown} of {count} answers; the file has all.")
            st.caption(t(said, shown=MOST_SHOWN, count=f"{len(answers):,}"))


def _answer(answer: EvaluatedAnswer, labels: Sequence[str]) -> None:
    with st.container(border=True):
        st.markdown(bold(answer.prompt))
        for place, label in zip(st.columns(len(labels)), labels, strict=True):
            given = answer.answers.get(label)
            place.markdown(escape(label) + _mark(given))
            place.text(visible_lines(given.text if given and given.text else "–"))


def _mark(answer: ColumnAnswer | None) -> Markdown:
    if answer is None or answer.contained is None:
        return Markdown()
    right, wrong, exact = t(N_("right")), t(N_("wrong")), t(N_("exact"))
    return Markdown(f" · :green[✓ {exact if answer.exact else right}]" if answer.contained else f" · :red[✗ {wrong}]")


def _downloads(run: RunStore, result: EvaluateResult, answers: Sequence[EvaluatedAnswer]) -> None:
    whole = {**result.to_json(), "answers": [answer.to_json() for answer in answers]}
    labels = [column.label for column in result.columns]
    files = {"json": json.dumps(whole, ensure_ascii=False, indent=1)}
    if answers:
        files["csv"] = answers_csv(answers, labels)
    with st.container(horizontal=True):
        for ending, text in files.items():
            st.download_button(
                escape(ending.upper()),
                text,
                file_name=f"evaluation-{run.id}.{ending}",
                on_click="ignore",
                key=f"evaluation-{ending}-{run.id}",
                icon=":material/download:",
                type="tertiary",
            )
