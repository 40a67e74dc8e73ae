"""One run on the screen: figures, curves, log, config, ranks, answers."""

from __future__ import annotations

import streamlit as st

from lora_backend.i18n import N_
from lora_backend.runs.processes.recovery import recover
from lora_backend.runs.record.run_store import RunStore
from lora_backend.runs.record.states import RunState
from lora_backend.views.rank_view import LayerRow, rank_table
from lora_backend.views.run_view import tab_title
from pages.parts.ranks.view import show_verdict
from pages.parts.run.alerts import say_that_it_ended
from pages.parts.run.answers import run_answers
from pages.parts.run.checkpoints import run_checkpoints, say_that_it_saved
from pages.parts.run.curves import run_columns, run_curves
from pages.parts.run.going import show_going
from pages.parts.run.log import run_log
from pages.parts.run.memory import memory_view
from pages.parts.run.processes import run_processes
from pages.parts.run.reproduce import run_reproduce
from pages.parts.run.result import show_result
from pages.parts.run.usage import usage_now
from pages.parts.shell import addresses
from pages.parts.shell.failing import sheltered, show_notices
from pages.parts.shell.header import browser_tab
from pages.parts.shell.language import t
from pages.parts.shell.navigation import VERIFY
from pages.parts.widgets.charts import Columns
from pages.parts.widgets.tables import scrolling_table

TICK_S = 2


def run_page(run: RunStore) -> None:
    """One run: made anew every two seconds while it goes on; once it has ended nothing on its page asks again.

    Both are the same fragment. So the browser takes what it shows of an ended run for what stood there before, and
    tab, zoom and place on the page stay as they are.
    """
    run_every = None if recover(run).has_ended else TICK_S
    st.fragment(_run, run_every=run_every)(run, run_every is not None)


@sheltered()
def _run(run: RunStore, is_live: bool) -> None:
    state = recover(run)
    if not run.run_json.exists():
        st.rerun()
    if is_live and state.has_ended:
        # Before anything of its end is drawn: a button to download with would be another one a moment later, and a click
        # on the first come to nothing.
        st.rerun()
    show_notices()
    say_that_it_saved(run, state)
    say_that_it_ended(run, state)
    browser_tab(tab_title(run.read_record(), state))
    columns = run_columns(run)
    _head(run, state, columns)
    _body(run, state, columns)


def _head(run: RunStore, state: RunState, columns: Columns) -> None:
    # One box, whatever stands in it: so the tabs below keep their place when the run's state changes, and the
    # browser never shows the old and the new ones at once.
    with st.container():
        if state.has_ended:
            show_result(run, state, columns)
        else:
            show_going(run, state, columns)


def _body(run: RunStore, state: RunState, columns: Columns) -> None:
    names = (N_("Curves"), N_("Log"), N_("Checkpoints"), N_("Memory"), N_("Config used"), N_("Ranks"), N_("Answers"))
    curves, log, checkpoints, memory, config, ranks, answers = st.tabs(
        [t(name) for name in names], key=f"parts-{run.id}"
    )
    with curves:
        run_curves(run, columns, state)
    with log:
        run_processes(run)
        run_log(run)
    with checkpoints:
        run_checkpoints(run, state, columns)
    with memory:
        if state.state in ("running", "stopping"):
            usage_now(run)
        memory_view(run, has_ended=state.has_ended)
    with config:
        run_reproduce(run)
    with ranks:
        _ranks(run, state)
    with answers:
        run_answers(run, state)


def _nothing_there(state: RunState, before: str, after: str, icon: str) -> None:
    """In the place of what a run has not made: what it waits for, or why it will never have it."""
    st.info(t(after if state.has_ended else before), icon=f":material/{icon}:")


def _ranks(run: RunStore, state: RunState) -> None:
    report = run.read_rank_report()
    if report is None:
        before = N_("The ranks are checked when the model is loaded.")
        after = N_("It ended before its ranks were checked, or its config does not ask for the check.")
        _nothing_there(state, before, after, "verified")
        return
    show_verdict(report)
    scrolling_table(rank_table([LayerRow(record) for record in report.layers]))
    if state.state == "finished":
        st.page_link(
            VERIFY,
            label=t(N_("Check the saved adapter")),
            icon=":material/verified:",
            query_params={addresses.RUN: run.id},
        )
