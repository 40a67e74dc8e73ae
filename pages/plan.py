"""Plan: what every GPU would hold, and where each layer goes, before anything is loaded."""

from __future__ import annotations

from pages.parts.shell.guard import guard

guard()

from collections.abc import Mapping
from functools import partial
from typing import Any

import streamlit as st

from lora_backend.config.drafts import new_draft, open_draft
from lora_backend.errors import FlightdeckError, WorkerError
from lora_backend.escaping import visible
from lora_backend.i18n import N_
from pages.parts.draft.edit import current_text, set_values
from pages.parts.draft.session import LAUNCH_ASKED
from pages.parts.plan.advice import show_best_remedy, show_split
from pages.parts.plan.compare import show_machines
from pages.parts.plan.controls import model_and_gpus, settings_bar
from pages.parts.plan.export import picture_buttons, show_export, use_in_config
from pages.parts.plan.figures import show_limits, show_times
from pages.parts.plan.moves import pick_view, show_moves, show_picture
from pages.parts.plan.options import show_options
from pages.parts.plan.tables import component_bars, component_table
from pages.parts.plan.trace import offer_again
from pages.parts.plan.verdict import show_basis, show_effect, show_verdict
from pages.parts.plan.work import Work, alone_on_one_gpu, prepare, read_question
from pages.parts.shell import addresses
from pages.parts.shell.header import browser_tab, page_header
from pages.parts.shell.language import say, t, t_plain
from pages.parts.shell.navigation import CONFIG, PLAN
from pages.parts.shell.services import installation
from pages.parts.widgets.chart import show_chart
from pages.parts.widgets.empty_state import empty_state

EXAMPLES: tuple[tuple[str, str, dict[str, str]], ...] = (
    ("meta-llama/Llama-3.1-70B", "80,48,24", {"gradient_checkpointing": "true", "batch_size": "1"}),
    ("meta-llama/Llama-3.1-8B", "RTX-4090,RTX-3060-12G", {}),
    ("Qwen/Qwen2.5-14B", "2xRTX-4090", {"quantization": "nf4", "gradient_checkpointing": "true"}),
)


def empty() -> None:
    sentence = t(
        N_(
            "Choose a model and the GPUs that you have or are considering. See what each GPU would hold and whether a run fits, move layers by hand, and export the device map. Nothing is downloaded or loaded."
        )
    )
    empty_state("strip", sentence, examples)


def examples() -> None:
    for model, gpus, more in EXAMPLES:
        label = t(N_("{model} on {gpus}"), model=model.rpartition("/")[2], gpus=gpus)
        query = {addresses.MODEL: model, addresses.GPUS: gpus, **more}
        st.page_link(PLAN, label=label, icon=":material/arrow_forward:", query_params=query)


def show(work: Work) -> None:
    browser_tab(f"{t_plain(N_('Plan'))} · {visible(work.question.model.rpartition('/')[2])}")
    share = alone_on_one_gpu(work)
    show_verdict(work)
    actions(work)
    if share is not None:
        show_split(work, share)
    remedy = st.container()
    show_effect(work)
    pick_view(work)
    show_picture(work)
    show_moves(work)
    figures = st.container()
    if share is None:
        show_split(work, share)
    show_basis(work)
    details(work)
    with figures:
        row = show_times(work)
    # Both may wait for a trace, so all else is there before they are.
    with remedy:
        show_best_remedy(work)
    with figures:
        show_limits(work, row)


def actions(work: Work) -> None:
    """What is done with a plan, below what it comes to."""
    with st.container(horizontal=True, key="plan_actions"):
        use_in_config(work)
        if addresses.DRAFT in work.question.params:
            st.page_link(
                CONFIG,
                label=t(N_("Back to the draft")),
                icon=":material/arrow_back:",
                query_params={addresses.DRAFT: work.question.params[addresses.DRAFT]},
            )
        picture_buttons(work)


def details(work: Work) -> None:
    """Only the tab that is open is computed, so that the sliders stay quick."""
    names = [N_("Components"), N_("Compare machines"), N_("Options on this machine"), N_("Device map")]
    tabs = st.tabs([t(name) for name in names], on_change="rerun", key="plan_tabs")
    components, machines, launchable, export = tabs
    if components.open:
        with components:
            show_chart(
                component_bars(work.plan), key="components", alt=t_plain(N_("What each GPU holds, by component"))
            )
            component_table(work.plan)
    if machines.open:
        with machines:
            show_machines(work)
    if launchable.open:
        with launchable:
            show_options(work, partial(launch_with, work))
    if export.open:
        with export:
            show_export(work)


def launch_with(work: Work, changes: Mapping[str, Any]) -> None:
    """Have the draft say so, the planned one or a new one, and launch it on its own page, where what it asks is said."""
    asked, drafts = work.question.params.get(addresses.DRAFT), installation().drafts
    draft = open_draft(drafts, asked) if asked else new_draft(drafts, "")
    if changes:
        current_text(draft)  # what this tab's edit starts from
        set_values(draft, changes)
    st.session_state[LAUNCH_ASKED] = draft.id
    st.switch_page(CONFIG, query_params={addresses.DRAFT: draft.id})


page_header(
    t(N_("Plan")),
    t(N_("What every GPU would hold, and where each layer goes, before anything is loaded.")),
    docs="memory-model",
)
try:
    question = read_question()
    model_and_gpus(question)
    if not question.model:
        empty()
    else:
        settings_bar(question)
        show(prepare(question))
except FlightdeckError as error:
    st.error(say(error.message), icon=":material/error:")
    if isinstance(error, WorkerError):
        offer_again()
