"""Runs: the list of all, and one run watched live."""

from __future__ import annotations

from pages.parts.shell.guard import guard

guard()

from collections.abc import Sequence

import streamlit as st

from lora_backend.errors import RunError
from lora_backend.i18n import N_, Plural
from lora_backend.runs.history.run_table import RunRow
from lora_backend.runs.processes.recovery import recover, recover_all
from lora_backend.runs.processes.waiting import entries
from lora_backend.runs.record.run_store import RunStore, open_run
from lora_backend.runs.record.unlinked import links_of
from lora_backend.views.compare_view import HOW_MANY, can_compare
from lora_backend.views.queue_view import expected_messages
from lora_backend.views.run_view import job_title, run_title, tab_title
from pages.parts.run.compare import compare_runs
from pages.parts.run.foreign_folder import folder_box, found_folder
from pages.parts.run.job_page import job_page
from pages.parts.run.list import running_row
from pages.parts.run.table import history, run_history
from pages.parts.run.trash import bin_and_disk, undo_of_delete
from pages.parts.run.view import TICK_S, run_page
from pages.parts.shell import addresses
from pages.parts.shell.failing import sheltered
from pages.parts.shell.header import Crumb, page_header
from pages.parts.shell.language import say, sentences, t
from pages.parts.shell.markdown import Markdown, escape
from pages.parts.shell.navigation import RUNS
from pages.parts.shell.services import installation
from pages.parts.widgets.empty_state import demo_or_config, empty_state


def all_runs() -> None:
    page_header(t(N_("Runs")), t(N_("Every training run of this workspace, the newest first.")), docs="runs")
    recover_all(installation().runs)
    rows = history(str(installation().runs)).rows()
    undo_of_delete()
    if not rows:
        empty_state("curve", t(N_("No runs yet. Start the demo on the home page, or launch a config.")), demo_or_config)
    else:
        live_runs(rows)
        others = [row for row in rows if row.state.has_ended or row.state.state == "queued"]
        if others:
            run_history(others)
    folder_box()
    bin_and_disk()


def live_runs(rows: Sequence[RunRow]) -> None:
    """Those that are being trained, above the table, as they are now; the page is made anew when one changes its state."""
    shown = {row.id: row.state.state for row in rows if not row.state.has_ended}
    if shown:
        _live_rows(shown)


@st.fragment(run_every=TICK_S)
@sheltered()
def _live_rows(shown: dict[str, str]) -> None:
    runs = [RunStore(installation().runs / run_id) for run_id in shown]
    if {run.id: recover(run).state for run in runs} != shown:
        st.rerun()
    for run in runs:
        if shown[run.id] != "queued":
            running_row(run)
    waiting = [run_id for run_id, state in shown.items() if state == "queued"]
    if waiting:
        _waiting_line(waiting)


def _waiting_line(waiting: Sequence[str]) -> None:
    """How many wait, and when the next of them starts."""
    here = installation()
    said = [
        t(
            Plural("{count} run is waiting for its turn.", "{count} runs are waiting for their turn."),
            count=len(waiting),
        )
    ]
    rows = history(str(here.runs)).rows()
    names = {row.id: row.title for row in rows}
    first = next((entry.run.id for entry in entries(here.workspace) if entry.run.id in waiting), None)
    if first is not None and first in names:
        expected = expected_messages(here.workspace, rows, here.clock())
        said += [t(N_("Next is {run}."), run=names[first]), *map(say, expected.get(first, []))]
    st.caption(Markdown(":material/schedule: ") + sentences(said))


def all_runs_crumb() -> Crumb:
    return Crumb(t(N_("All runs")), RUNS)


def compared(ids: list[str]) -> None:
    fits = can_compare(ids)
    runs = [open_run(installation().runs, run_id) for run_id in ids] if fits else []
    page_header(
        t(N_("Compare runs")),
        t(N_("{count} runs side by side."), count=len(runs)) if fits else None,
        crumbs=[all_runs_crumb()],
    )
    if not fits:
        st.warning(t(HOW_MANY), icon=":material/compare_arrows:")
    else:
        compare_runs(runs)


def one_run(run: RunStore) -> None:
    record = run.read_record()
    actor = record.actor or "–"
    title = run_title(record)
    said = escape(title) if record.kind == "train" else say(job_title(record.kind, title))
    page_header(
        said,
        t(N_("Run {id}, started by {actor}"), id=run.id, actor=actor),
        crumbs=[all_runs_crumb()],
        tab=tab_title(record, run.state()),
        docs="runs",
    )
    if links := links_of(run.path):
        st.warning(say(links), icon=":material/link_off:")
    if record.kind == "train":
        run_page(run)
    else:
        job_page(run)


run_id, compare_ids = st.query_params.get(addresses.RUN), st.query_params.get(addresses.COMPARE)
try:
    if run_id:
        one_run(open_run(installation().runs, run_id))
    elif compare_ids:
        compared(list(dict.fromkeys(part for part in compare_ids.split(",") if part)))
    elif folder := st.query_params.get(addresses.FOLDER):
        found_folder(folder)
    else:
        all_runs()
except RunError as error:
    page_header(t(N_("Runs")), crumbs=[all_runs_crumb()])
    st.warning(say(error.message), icon=":material/search_off:")
