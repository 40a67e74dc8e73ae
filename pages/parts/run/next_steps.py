"""What to do with a run that has finished: try its adapter, take it along, check it, train on, compare; and what was done so far."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import streamlit as st

from lora_backend.escaping import visible
from lora_backend.formats import size, when
from lora_backend.i18n import N_
from lora_backend.preflight.adapter_files import adapter_files
from lora_backend.preflight.adapter_zip import MOST_ZIPPED_BYTES, zipped_adapter
from lora_backend.runs.history.jobs_of import jobs_of
from lora_backend.runs.history.run_table import RunRow
from lora_backend.runs.record.run_store import RunStore
from lora_backend.runs.record.states import RunState
from lora_backend.runs.record.unlinked import own_adapter
from lora_backend.symlinks import is_unlinked_folder
from lora_backend.views.run_view import job_title
from pages.parts.job.evaluate_form import evaluate_button
from pages.parts.job.export_form import export_buttons
from pages.parts.run.go_on import resume
from pages.parts.run.labels import run_labels
from pages.parts.run.longer import train_longer
from pages.parts.run.report import report_button
from pages.parts.run.resume import can_resume, is_asked_again, run_again
from pages.parts.run.table import history
from pages.parts.shell import addresses
from pages.parts.shell.language import say, t
from pages.parts.shell.markdown import bold, escape
from pages.parts.shell.navigation import RUNS, TRY, VERIFY
from pages.parts.shell.services import installation
from pages.parts.widgets.status_badge import status_badge

MOST_SHOWN = 8
MOST_TO_COMPARE = 50


def next_steps(run: RunStore) -> None:
    """The buttons of a run that has finished; without an adapter there is nothing to try."""
    changes = None
    with st.container(horizontal=True, vertical_alignment="center", key="next_steps"):
        if is_unlinked_folder(run.adapter):
            if st.button(t(N_("Try it")), icon=":material/forum:", type="primary", key="try_run"):
                st.switch_page(TRY, query_params={addresses.WITH: f"run:{run.id}"})
            _download(run)
            if st.button(t(N_("Verify")), icon=":material/verified:", key="verify_run"):
                st.switch_page(VERIFY, query_params={addresses.RUN: run.id})
        if can_resume(run):
            changes = train_longer(run)
        compare_button(run)
        report_button(run)
        run_labels(run)
    if changes is not None:
        resume(run, changes)


def more_steps(run: RunStore, state: RunState) -> None:
    """What is wanted less often, folded; and the jobs of the run."""
    title = t(N_("Evaluate, export, or train on with other settings"))
    with st.expander(title, icon=":material/more_horiz:", expanded=is_asked_again(run, state)):
        if is_unlinked_folder(run.adapter):
            adapter = own_adapter(run.path)
            evaluate_button(adapter, run)
            export_buttons(adapter, run)
        run_again(run, state)
    _done(jobs_of(run.id, history(str(installation().runs)).rows()))


def _download(run: RunStore) -> None:
    adapter = own_adapter(run.path)
    total = adapter_files(adapter).size_bytes
    if total > MOST_ZIPPED_BYTES:
        with st.popover(t(N_("Download")), icon=":material/download:"):
            st.caption(t(N_("At {size} it is too large for a browser. Copy its folder, or export it as a .zip file."), size=size(total)))  # fmt: skip
        return
    st.download_button(
        t(N_("Download")),
        partial(zipped_adapter, adapter),
        file_name=f"{run.id}-adapter.zip",
        mime="application/zip",
        icon=":material/download:",
        on_click="ignore",
        key="download_adapter",
    )


def compare_button(run: RunStore) -> None:
    """Beside another training of this workspace."""
    rows = history(str(installation().runs)).rows()
    others = {row.id: row for row in rows if row.kind == "train" and row.id != run.id}
    if not others:
        return
    with st.popover(t(N_("Compare")), icon=":material/compare_arrows:"):
        other = st.selectbox(
            t(N_("Compare with")),
            list(others)[:MOST_TO_COMPARE],
            format_func=lambda run_id: visible(f"{others[run_id].title} · {when(others[run_id].created_at)}"),
            key=f"compare-with-{run.id}",
        )
        if st.button(t(N_("Compare both")), key="compare_both"):
            st.switch_page(RUNS, query_params={addresses.COMPARE: f"{run.id},{other}"})


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
