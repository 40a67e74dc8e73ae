"""What to do with a run that has finished: try its adapter, evaluate it, take it along; and what was done so far."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from lora_backend.formats import when
from lora_backend.i18n import N_
from lora_backend.runs.history.jobs_of import jobs_of
from lora_backend.runs.history.run_table import RunRow
from lora_backend.runs.record.run_store import RunStore
from lora_backend.runs.record.unlinked import own_adapter
from lora_backend.symlinks import is_unlinked_folder
from lora_backend.views.run_view import job_title
from pages.parts.job.evaluate_form import evaluate_button
from pages.parts.job.export_form import export_buttons
from pages.parts.run.table import history
from pages.parts.shell import addresses
from pages.parts.shell.language import say, t
from pages.parts.shell.markdown import bold, escape
from pages.parts.shell.navigation import RUNS, TRY, VERIFY
from pages.parts.shell.services import installation
from pages.parts.widgets.status_badge import status_badge

MOST_SHOWN = 8


def next_steps(run: RunStore) -> None:
    """Buttons for a run whose adapter is there; nothing for others."""
    if not is_unlinked_folder(run.adapter):
        return
    adapter = own_adapter(run.path)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.page_link(
            TRY, label=t(N_("Try it")), icon=":material/forum:", query_params={addresses.WITH: f"run:{run.id}"}
        )
        st.page_link(VERIFY, label=t(N_("Verify")), icon=":material/verified:", query_params={addresses.RUN: run.id})
        evaluate_button(adapter, run)
    export_buttons(adapter, run)
    _done(jobs_of(run.id, history(str(installation().runs)).rows()))


def _done(jobs: Sequence[RunRow]) -> None:
    if not jobs:
        return
    with st.expander(t(N_("Evaluations and exports of this run")), icon=":material/checklist:"):
        for job in jobs[:MOST_SHOWN]:
            with st.container(horizontal=True, vertical_alignment="center"):
                status_badge(job.state.state)
                st.page_link(
                    RUNS, label=bold(say(job_title(job.kind, job.title))), query_params={addresses.RUN: job.id}
                )
                st.caption(escape(when(job.created_at)))
