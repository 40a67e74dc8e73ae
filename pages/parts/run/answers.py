"""The config's questions with the answers of base model and adapter: counted, filtered, and shown as they come."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from lora_backend.i18n import N_
from lora_backend.runs.record.documents import Answer
from lora_backend.runs.record.run_store import RunStore
from lora_backend.runs.record.states import RunState
from lora_backend.views.answers_view import PER_PAGE, SHOWN, Shown, answers_table, chosen, counts
from lora_backend.views.result_view import answer_facts, group_name
from pages.parts.run.facts import show_facts
from pages.parts.run.samples import show_samples
from pages.parts.shell.language import say, t
from pages.parts.widgets.tables import wrapping_table


def run_answers(run: RunStore, state: RunState) -> None:
    """Those that are there; below them what was answered while it trained."""
    answers = [answer for answer in run.read_answers() if answer.question]
    is_answering = state.stage == "answering" and not state.has_ended
    if is_answering and state.detail:
        st.progress(min(state.fraction or 0.0, 1.0), say(state.detail))
    if answers:
        show_facts(answer_facts(answers), key="right_answers")
        _table(run, answers)
    if show_samples(run) or answers or is_answering:
        return
    before = N_("After training, the base model and the adapter answer the config's questions here, if it has any.")
    after = N_("This run has no answers: its config names no `questions`.")
    st.info(t(after if state.has_ended else before), icon=":material/forum:")


def _table(run: RunStore, answers: Sequence[Answer]) -> None:
    found, groups = counts(answers), list(dict.fromkeys(answer.group for answer in answers))
    with st.container(horizontal=True, vertical_alignment="bottom", key="answers_shown"):
        shown: Shown = st.segmented_control(
            t(N_("Answers of the adapter")),
            list(SHOWN),
            format_func=lambda kind: t(N_("{kind} ({count})"), kind=t(SHOWN[kind]), count=found[kind]),
            default="all",
            required=True,
            key=f"answers-shown-{run.id}",
        )
        group = None
        if len(groups) > 1:
            group = st.selectbox(
                t(N_("Group")),
                [None, *groups],
                format_func=lambda name: t(N_("All groups")) if name is None else say(group_name(name)),
                key=f"answers-group-{run.id}",
                width=220,
            )
        whole = st.toggle(t(N_("Full texts")), key=f"answers-whole-{run.id}")
        rows = chosen(answers, shown, group)
        pages = max(-(-len(rows) // PER_PAGE), 1)
        place = 0
        if pages > 1:
            label, key = t(N_("Page (of {count})"), count=pages), f"answers-page-{run.id}-{pages}"
            place = (st.number_input(label, 1, pages, key=key, width=160) - 1) * PER_PAGE
    if not rows:
        st.info(t(N_("No answers match.")), icon=":material/filter_alt_off:")
        return
    table = answers_table(rows[place : place + PER_PAGE], whole=whole)
    wrapping_table([say(head) for head in table.heads], [list(row) for row in table.rows], table.fills)
