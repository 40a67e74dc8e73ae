"""What came of a run that has ended, on top of its page: state and cause, the figures, the adapter's place, what to do next."""

from __future__ import annotations

import streamlit as st

from lora_backend.escaping import visible, visible_lines
from lora_backend.formats import size
from lora_backend.i18n import N_
from lora_backend.runs.history.checkpoint_list import saved_steps
from lora_backend.runs.history.loss_health import health_of
from lora_backend.runs.history.trash import disk_bytes
from lora_backend.runs.record.failures import TOLD_BY_THE_LOG
from lora_backend.runs.record.run_store import RunStore
from lora_backend.runs.record.states import RunState
from lora_backend.symlinks import is_unlinked_folder
from lora_backend.views.result_view import result_facts
from lora_backend.views.run_view import progress_parts
from pages.parts.run.alerts import how_its_loss_ended
from pages.parts.run.facts import show_facts
from pages.parts.run.going import notes_of_start
from pages.parts.run.labels import run_labels
from pages.parts.run.machines import run_machines
from pages.parts.run.next_steps import more_steps, next_steps
from pages.parts.run.report import report_button
from pages.parts.run.resume import run_again
from pages.parts.shell.language import say, sentences, t
from pages.parts.shell.markdown import joined
from pages.parts.shell.services import installation
from pages.parts.widgets.charts import Columns
from pages.parts.widgets.status_badge import status_badge

LAST_LINES = 5
"""Of the log, beside the cause: more would push what can be done about it off the screen."""


def show_result(run: RunStore, state: RunState, columns: Columns) -> None:
    """Of a run that was done what to do with its adapter; of others the cause, then the way on."""
    with st.container(horizontal=True, vertical_alignment="center"):
        status_badge(state.state, health_of(run))
        st.caption(joined(" · ", map(say, progress_parts(state, columns, saved_steps(run)))))
    _cause(state)
    how_its_loss_ended(state, health_of(run))
    if state.state == "finished":
        next_steps(run)
    else:
        with st.container(horizontal=True, key="next_steps"):
            with st.container(width="content"):
                run_again(run, state)
            report_button(run)
            run_labels(run)
    show_facts(result_facts(run, state, columns, run.read_answers(), installation()))
    if is_unlinked_folder(run.adapter):
        with st.container(key="adapter_place", gap=None):
            st.caption(t(N_("The adapter, {size}"), size=size(disk_bytes(run.adapter))))
            st.code(visible(str(run.adapter)), language=None)
    _last_lines(run, state)
    if state.state == "finished":
        more_steps(run, state)
    run_machines(run, state)
    notes_of_start(run)


def _cause(state: RunState) -> None:
    """Why it ended, and the remedy."""
    if not state.message:
        return
    as_asked = state.state in ("stopped", "finished")
    show = st.info if as_asked else st.error
    parts = [say(state.message), *([say(state.remedy)] if state.remedy else [])]
    if state.state in ("failed", "lost"):
        parts.append(t(N_("The Log tab has the details.")))
    show(sentences(parts), icon=":material/info:" if as_asked else ":material/error:")


def _last_lines(run: RunStore, state: RunState) -> None:
    ended = run.read_exit()
    if not state.message or ended is None or not ended.log:
        return
    with st.expander(t(N_("The log's last lines")), expanded=state.cause in TOLD_BY_THE_LOG):
        st.code(visible_lines("\n".join(ended.log[-LAST_LINES:])), language=None, wrap_lines=True)
