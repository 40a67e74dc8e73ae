"""A run that goes on, at a glance: its state, how far it is, how its loss does, and what can be done with it."""

from __future__ import annotations

import streamlit as st

from lora_backend.runs.history.checkpoint_list import saved_steps
from lora_backend.runs.history.loss_health import health_of
from lora_backend.runs.record.run_store import RunStore
from lora_backend.runs.record.states import AFTER_TRAINING, RunState
from lora_backend.views.result_view import going_facts
from lora_backend.views.run_view import progress_parts
from lora_backend.views.state_view import passed_over_messages, stage_parts, stopping_messages
from pages.parts.run.actions import other_gpus, run_actions, what_it_waits_for
from pages.parts.run.alerts import run_alerts
from pages.parts.run.facts import show_facts
from pages.parts.run.labels import run_labels
from pages.parts.run.machines import run_machines
from pages.parts.run.next_steps import compare_button
from pages.parts.shell.language import say, sentences
from pages.parts.shell.markdown import joined
from pages.parts.widgets.charts import Columns
from pages.parts.widgets.status_badge import stage_in_words, status_badge


def show_going(run: RunStore, state: RunState, columns: Columns) -> None:
    """From its place in the queue to its last answer."""
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        with st.container(horizontal=True, vertical_alignment="center", width="content"):
            status_badge(state.state, health_of(run))
            if state.state != "queued":
                st.caption(joined(" · ", map(say, stage_parts(state))))
        with st.container(horizontal=True, width="content"):
            run_actions(run, state)
            compare_button(run)
            run_labels(run)
    if state.state == "queued":
        what_it_waits_for(run)
        other_gpus(run)
    _how_far(run, state, columns)
    if state.state == "stopping":
        st.info(sentences(map(say, stopping_messages(run))), icon=":material/hourglass_bottom:")
    run_alerts(run, state, columns)
    answers = run.read_answers() if state.stage in AFTER_TRAINING else []
    show_facts(going_facts(state, columns, answers))
    run_machines(run, state)
    notes_of_start(run)


def notes_of_start(run: RunStore) -> None:
    """What the newest start did otherwise than the one before: checkpoints that were passed over, another number of processes."""
    if passed_over := passed_over_messages(run):
        st.warning(sentences(map(say, passed_over)), icon=":material/broken_image:")
    if note := run.read_attempt().resume_note:
        st.info(say(note), icon=":material/group:")


def _how_far(run: RunStore, state: RunState, columns: Columns) -> None:
    """Steps while it trains; of a stage that counts none its share."""
    if state.fraction is not None and (state.stage in AFTER_TRAINING or not state.total_steps):
        st.progress(min(state.fraction, 1.0), stage_in_words(state.stage))
    elif state.total_steps:
        parts = progress_parts(state, columns, saved_steps(run))
        st.progress(min(state.step / state.total_steps, 1.0), joined(" · ", map(say, parts)))
