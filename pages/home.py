"""Home: what this machine has, the demo in one click, runs that go on and recent ones."""

from __future__ import annotations

from pages.parts.shell.guard import guard

guard()

import streamlit as st

from lora_backend.demo.demo_run import DEMO_NAME, launch_demo
from lora_backend.errors import FlightdeckError
from lora_backend.formats import gib
from lora_backend.hardware.inventory import read_gpus, read_host
from lora_backend.hardware.processes import GpuProcess
from lora_backend.i18n import N_
from lora_backend.runs.record.run_store import RunStore, list_runs
from pages.parts.run.list import run_row
from pages.parts.shell import addresses
from pages.parts.shell.failing import sheltered
from pages.parts.shell.header import page_header
from pages.parts.shell.language import explain, say, t
from pages.parts.shell.markdown import Markdown, escape, joined
from pages.parts.shell.navigation import CONFIG, PLAN, RUNS, VERIFY
from pages.parts.shell.services import installation

RECENT = 6


def machine() -> None:
    host, inventory = read_host(installation().workspace), read_gpus()
    columns = st.columns(4)
    gpu_bytes = sum(gpu.total_bytes for gpu in inventory.gpus)
    figures: list[tuple[str, Markdown, Markdown | None]] = [
        (N_("GPUs"), escape(len(inventory.gpus)), t(N_("{size} in total"), size=gib(gpu_bytes)) if gpu_bytes else None),
        (N_("CPU cores"), escape(host.num_cores), None),
        (
            N_("Memory free"),
            escape(gib(host.memory_available_bytes)),
            t(N_("of {size}"), size=gib(host.memory_total_bytes)),
        ),
        (N_("Disk free"), escape(gib(host.disk_free_bytes)), t(N_("of {size}"), size=gib(host.disk_total_bytes))),
    ]
    for column, (label, figure, whole) in zip(columns, figures, strict=True):
        column.metric(t(label), figure, whole, delta_color="off", delta_arrow="off", border=True, height="stretch")
    if inventory.reason:
        st.caption(say(inventory.reason))
    for gpu in inventory.gpus:
        st.progress(
            gpu.used_bytes / gpu.total_bytes,
            f"**GPU {escape(gpu.index)}** {escape(gpu.name)} · "
            + t(N_("{used} of {total} in use"), used=gib(gpu.used_bytes), total=gib(gpu.total_bytes)),
        )
        if gpu.processes:
            st.caption(joined(" · ", map(_user_of_gpu, gpu.processes)))


def _user_of_gpu(process: GpuProcess) -> Markdown:
    """`python (alice, 4711) 3.2 GiB`; what is not told is left out."""
    who = ", ".join(filter(None, [process.user, str(process.pid)]))
    return escape(f"{process.name or '–'} ({who}) {gib(process.used_bytes)}")


def demo(runs: list[RunStore]) -> None:
    with st.container(border=True, height="stretch"):
        st.subheader(t(N_("See it work")), anchor=False)
        st.write(
            t(
                N_(
                    "A real language model (135 million parameters) learns the help desk of an invented product on this machine, in English and Chinese. It takes about two minutes on two CPU cores; the first time 93 MB are downloaded."
                )
            )
        )
        active = next((run for run in runs if run.read_record().name == DEMO_NAME and not run.state().has_ended), None)
        if active:
            st.page_link(
                RUNS,
                label=t(N_("The demo is running: watch it")),
                icon=":material/show_chart:",
                query_params={"run": active.id},
            )
            return
        if st.button(t(N_("Start the demo")), type="primary", icon=":material/play_arrow:", key="start_demo"):
            try:
                run = launch_demo(installation())
            except (FlightdeckError, OSError) as error:
                st.error(explain(error))
            else:
                st.switch_page(RUNS, query_params={addresses.RUN: run.id})


def own_work() -> None:
    with st.container(border=True, height="stretch"):
        st.subheader(t(N_("Train your own")), anchor=False)
        st.write(
            t(
                N_(
                    "Upload or write a config, compare it with the defaults, fix what is wrong, then launch it in its own process."
                )
            )
        )
        with st.container(horizontal=True):
            st.page_link(CONFIG, label=t(N_("Open a config")), icon=":material/tune:")
            st.page_link(PLAN, label=t(N_("Plan for your GPUs")), icon=":material/memory:")
            st.page_link(VERIFY, label=t(N_("Check an adapter")), icon=":material/verified:")


@st.fragment(run_every=5)
@sheltered()
def runs_overview() -> None:
    runs = list_runs(installation().runs)
    st.subheader(t(N_("Runs")), anchor=False)
    if not runs:
        st.info(
            t(N_("No runs yet. Start the demo above or launch a config: your run will show up here.")),
            icon=":material/info:",
        )
    for run in runs[:RECENT]:
        run_row(run)
    if len(runs) > RECENT:
        st.page_link(RUNS, label=t(N_("All {count} runs"), count=len(runs)), icon=":material/list:")


page_header(
    t(N_("LoRA Flightdeck")), t(N_("Fine-tune language models with LoRA: configure, launch, watch, verify.")), docs=""
)
machine()
left, right = st.columns(2)
with left:
    demo(list_runs(installation().runs))
with right:
    own_work()
runs_overview()
