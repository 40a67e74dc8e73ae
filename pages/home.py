"""Home: what runs, what waits, what came of the last ones; before there was any, the demo in one click."""

from __future__ import annotations

from pages.parts.shell.guard import guard

guard()

from collections.abc import Sequence

import streamlit as st

from lora_backend.demo.demo_pace import demo_seconds
from lora_backend.demo.demo_run import DEMO_NAME, launch_demo
from lora_backend.errors import FlightdeckError
from lora_backend.formats import gib, rough_size, seconds_range
from lora_backend.hardware.inventory import GpuInventory, read_gpus, read_host
from lora_backend.hardware.processes import GpuProcess
from lora_backend.i18n import N_, Plural
from lora_backend.runs.history.run_table import RunRow
from lora_backend.runs.history.usage import GpuUsage
from lora_backend.runs.processes.recovery import recover_all
from lora_backend.runs.processes.waiting import entries
from lora_backend.runs.record.run_store import RunStore
from lora_backend.views.queue_view import expected_messages
from pages.parts.run.list import result_row, running_row, waiting_row
from pages.parts.run.table import history
from pages.parts.shell import addresses
from pages.parts.shell.failing import sheltered
from pages.parts.shell.header import page_header
from pages.parts.shell.language import explain, say, t
from pages.parts.shell.markdown import Markdown, escape, joined
from pages.parts.shell.navigation import CONFIG, PLAN, RUNS, VERIFY
from pages.parts.shell.services import installation
from pages.parts.widgets.gpu_panel import gpu_panel

RECENT, MOST_RUNNING, MOST_WAITING = 6, 8, 8
TICK_S = 3


def all_rows() -> list[RunRow]:
    """Every run, the newest first."""
    return sorted(history(str(installation().runs)).rows(), key=lambda row: row.id, reverse=True)


def machine() -> None:
    """What it has, in one quiet line: the GPUs that are there have a panel of their own."""
    host, inventory = read_host(installation().workspace), read_gpus()
    figures = [
        t(Plural("{count} CPU core", "{count} CPU cores"), count=host.num_cores),
        t(
            N_("memory: {free} of {total} free"),
            free=rough_size(host.memory_available_bytes),
            total=rough_size(host.memory_total_bytes),
        ),
        t(
            N_("disk: {free} of {total} free"),
            free=rough_size(host.disk_free_bytes),
            total=rough_size(host.disk_total_bytes),
        ),
    ]
    with st.container(gap="xxsmall", key="machine"):
        if inventory.reason:
            st.caption(say(inventory.reason))
        st.caption(joined(" · ", figures))


def gpus(inventory: GpuInventory) -> None:
    """What each holds and does now, and for whom."""
    gpu_panel([GpuUsage(gpu, None, None) for gpu in inventory.gpus], "home")
    for gpu in inventory.gpus:
        if gpu.processes:
            users = joined(" · ", map(_user_of_gpu, gpu.processes))
            st.caption(t(N_("GPU {index}: {users}"), index=gpu.index, users=users))


def _user_of_gpu(process: GpuProcess) -> Markdown:
    """`python (alice, 4711) 3.2 GiB`; what is not told is left out."""
    who = ", ".join(filter(None, [process.user, str(process.pid)]))
    return escape(f"{process.name or '–'} ({who}) {gib(process.used_bytes)}")


def demo() -> None:
    """The main act until there was a run."""
    with st.container(border=True, height="stretch"):
        st.header(t(N_("See it work")), anchor=False)
        st.write(
            t(
                N_(
                    "A real language model (135 million parameters) learns the help desk of an invented product on this machine, in English and Chinese."
                )
            )
        )
        st.caption(joined(" ", _what_it_takes()))
        start_demo(is_primary=True)


def _what_it_takes() -> list[Markdown]:
    """Minutes only where they were measured here; on a GPU nobody has."""
    said = [t(N_("The first time 93 MB are downloaded."))]
    found = None if read_gpus().gpus else demo_seconds(installation().cache)
    return said if found is None else [t(N_("Takes {time} here."), time=seconds_range(*found)), *said]


def start_demo(*, is_primary: bool) -> None:
    if st.button(
        t(N_("Start the demo")),
        type="primary" if is_primary else "secondary",
        icon=":material/play_arrow:",
        key="start_demo",
    ):
        try:
            run = launch_demo(installation())
        except (FlightdeckError, OSError) as error:
            st.error(explain(error))
        else:
            st.switch_page(RUNS, query_params={addresses.RUN: run.id})


def own_work() -> None:
    with st.container(border=True, height="stretch"):
        st.header(t(N_("Train your own")), anchor=False)
        st.write(
            t(
                N_(
                    "Upload or write a config, compare it with the defaults, fix what is wrong, then launch it in its own process."
                )
            )
        )
        own_links()


def own_links() -> None:
    with st.container(horizontal=True):
        st.page_link(CONFIG, label=t(N_("Open a config")), icon=":material/tune:")
        st.page_link(PLAN, label=t(N_("Plan for your GPUs")), icon=":material/memory:")
        st.page_link(VERIFY, label=t(N_("Check an adapter")), icon=":material/verified:")


def next_acts() -> None:
    """What one may do next, once there were runs."""
    with st.container(horizontal=True, vertical_alignment="center"):
        if st.button(t(N_("Train your own")), type="primary", icon=":material/add:", key="train_your_own"):
            st.switch_page(CONFIG)
        st.page_link(PLAN, label=t(N_("Plan for your GPUs")), icon=":material/memory:")
        st.page_link(VERIFY, label=t(N_("Check an adapter")), icon=":material/verified:")


@st.fragment(run_every=TICK_S)
@sheltered()
def overview(had_runs: bool, had_demo: bool) -> None:
    """What runs, what waits, the GPUs and the last results, as they are now; `had_…` is what the page around it goes by."""
    recover_all(installation().runs)
    rows = all_rows()
    if (bool(rows), is_demo_going(rows)) != (had_runs, had_demo):
        st.rerun()
    _running([row for row in rows if not row.state.has_ended and row.state.state != "queued"])
    _queue(rows)
    gpus(read_gpus())
    _results([row for row in rows if row.state.has_ended and not row.labels.archived])


def is_demo_going(rows: Sequence[RunRow]) -> bool:
    return any(row.name == DEMO_NAME and not row.state.has_ended for row in rows)


def _running(rows: Sequence[RunRow]) -> None:
    if not rows:
        return
    st.header(t(N_("Running")), anchor=False)
    for row in rows[:MOST_RUNNING]:
        running_row(RunStore(installation().runs / row.id))


def _queue(rows: Sequence[RunRow]) -> None:
    """In the order in which they start."""
    waiting = {row.id: row for row in rows if row.state.state == "queued"}
    if not waiting:
        return
    expected = expected_messages(installation().workspace, rows, installation().clock())
    st.header(t(N_("Queue")), anchor=False)
    order = [entry.run.id for entry in entries(installation().workspace) if entry.run.id in waiting]
    ids = [*order, *(run_id for run_id in reversed(waiting) if run_id not in order)]
    for place, run_id in enumerate(ids[:MOST_WAITING], 1):
        waiting_row(place, RunStore(installation().runs / run_id), waiting[run_id].title, expected.get(run_id, []))
    if len(ids) > MOST_WAITING:
        st.caption(t(N_("and {count} more"), count=len(ids) - MOST_WAITING))


def _results(rows: Sequence[RunRow]) -> None:
    if not rows:
        return
    st.header(t(N_("Last results")), anchor=False)
    with st.container(border=True, gap="small", key="list_results"):
        for row in rows[:RECENT]:
            result_row(row)
    st.page_link(RUNS, label=t(N_("All runs")), icon=":material/list:")


page_header(
    t(N_("LoRA Flightdeck")), t(N_("Fine-tune language models with LoRA: configure, launch, watch, verify.")), docs=""
)
rows = all_rows()
if rows:
    next_acts()
    overview(True, is_demo_going(rows))
    machine()
    if not is_demo_going(rows):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.caption(t(N_("The demo trains a small model on the help desk of an invented product.")), width="content")
            start_demo(is_primary=False)
else:
    left, right = st.columns(2)
    with left:
        demo()
    with right:
        own_work()
    overview(False, False)
    machine()
