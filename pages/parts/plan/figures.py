"""What a run would take: time and cost of a plan, and the largest batch and the longest row that fit."""

from __future__ import annotations

from typing import Any

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from lora_backend.config.schema import TrainingConfig
from lora_backend.errors import WorkerError
from lora_backend.formats import gib
from lora_backend.i18n import N_, Plural
from lora_backend.planning.estimate import Conditions, Estimate, estimate, mean_batch
from lora_backend.planning.figures import mean_in_words, no_time, time_basis
from lora_backend.planning.limits import Limit, largest_batch, longest_row
from lora_backend.planning.plan import Plan
from lora_backend.preflight.conditions import conditions_for
from lora_backend.views.plan_view import cost_message, step_message, total_message
from pages.parts.plan import session
from pages.parts.plan.trace import offer_again
from pages.parts.plan.work import Work
from pages.parts.shell import addresses
from pages.parts.shell.language import say, say_plain, sentences, t, t_plain
from pages.parts.shell.markdown import Markdown, bold


def estimate_of(work: Work, plan: Plan, config: TrainingConfig) -> Estimate | None:
    """Time of `plan`, for the rows of data that the page was told."""
    return estimate(plan, config, conditions_of(work, plan, config))


def conditions_of(work: Work, plan: Plan, config: TrainingConfig) -> Conditions:
    """What the time of `plan` depends on here. A draft's data set is only read where the browser may."""
    targets = tuple(device.target for device in plan.devices)
    links = work.planner.link_speed if targets == work.planner.targets else None
    return conditions_for(work.resolved, targets, links, work.question.value("rows"))


def cost_of(work: Work, plan: Plan, found: Estimate | None) -> str:
    """Money for the whole run on the GPUs that it uses; a dash where it cannot be said."""
    num_gpus = sum(not device.target.is_cpu for device in plan.used)
    return say_plain(cost_message(found, work.question.value("price"), num_gpus, work.question.value("currency")))


def show_times(work: Work) -> DeltaGenerator:
    """Figures side by side, as far as they are known at once. Returns the row, for those that may wait for a trace."""
    found = estimate_of(work, work.plan, work.config)
    row = st.container(horizontal=True, gap="large", key="plan_figures")
    with row:
        for label, value in (
            (N_("One step"), say_plain(step_message(found))),
            (N_("Whole run"), say_plain(total_message(found))),
            (N_("Cost"), cost_of(work, work.plan, found)),
        ):
            if value != "–":
                _figure(t(label), value)
        _show_mean_batch(work)
    say_of_time(work)
    return row


def _show_mean_batch(work: Work) -> None:
    """What the fullest device holds with a batch of mean length, where the data's rows are known."""
    found = mean_batch(work.plan, work.config, conditions_of(work, work.plan, work.config))
    if found is not None:
        (said,) = mean_in_words(found, work.plan)
        _figure(t(N_("Mean batch")), gib(found.total_bytes), say(said))


def _figure(label: Markdown, value: str, help_text: Markdown | None = None) -> None:
    """Smaller than `st.metric`, which cuts a range off."""
    with st.container(width="content", gap=None):
        st.caption(label, help=help_text, width="content")
        st.markdown(bold(value), width="content")


def show_limits(work: Work, row: DeltaGenerator) -> None:
    """The largest batch and the longest row, beside the figures of `row`. May wait for a trace: a batch is padded."""
    try:
        batch, tokens = _known_limits(work)
    except WorkerError as error:
        st.caption(t(N_("The largest batch is not known: {reason}"), reason=say(error.message)))
        offer_again("limits")
        return
    none = t_plain(N_("none fits"))
    with row:
        _figure(
            t(N_("Largest batch")),
            t_plain(Plural("{count} row", "{count} rows"), count=batch.value) if batch.value else none,
            t(
                N_("Rows of {length} tokens that fit in one forward pass, with these settings."),
                length=work.config.max_length,
            ),
        )
        _figure(
            t(N_("Longest row")),
            t_plain(Plural("{count} token", "{count} tokens"), count=f"{tokens.value:,}") if tokens.value else none,
            t(N_("What fits at a batch size of {count}, with these settings."), count=work.config.batch_size),
        )


def _known_limits(work: Work) -> tuple[Limit, Limit]:
    asked = ({**work.question.params, "lang": ""}, work.question.base)
    known: tuple[Any, Limit, Limit] | None = st.session_state.get(session.PLAN_LIMITS)
    if known is None or known[0] != asked:
        placed = work.plan.assignment if work.is_by_hand else None
        batch = largest_batch(work.planner, work.config, placed)
        known = asked, batch, longest_row(work.planner, work.config, placed)
        st.session_state[session.PLAN_LIMITS] = known
    return known[1], known[2]


def say_of_time(work: Work) -> None:
    """What the times rest on, or why there are none."""
    conditions = conditions_of(work, work.plan, work.config)
    if estimate(work.plan, work.config, conditions) is None:
        if st.query_params.get(addresses.VIEW) != "time":  # which says so in the place of its lanes
            st.caption(say(no_time()))
        return
    said = [say(message) for message in time_basis(conditions, work.plan, work.config)]
    if conditions.rows is None and not work.config.max_steps:
        said.append(t(N_("To see the whole run, set the number of data rows on the left.")))
    elif not work.question.value("price") and work.plan.strategy != "cpu":
        said.append(t(N_("To see the cost, set the price of a GPU hour on the left.")))
    st.caption(sentences(said))
