"""The plan that the address asks for: config, planner, the best placement, and the one that is shown."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import streamlit as st

from lora_backend.config.named_data import TRAINED_ON
from lora_backend.config.schema import TrainingConfig
from lora_backend.i18n import Message, Plural
from lora_backend.planning.plan import Plan, assignment_of
from lora_backend.planning.planner import Planner, with_changes
from lora_backend.planning.targets import Target
from lora_backend.planning.ways import plan_single
from lora_backend.preflight.gpu_price import gpu_price
from lora_backend.preflight.plan_question import planner_for
from lora_backend.preflight.resolve import ResolvedConfig
from pages.parts.plan.question import Question, placement_of
from pages.parts.plan.trace import trace
from pages.parts.shell import addresses
from pages.parts.shell.addressed_draft import values_of_draft
from pages.parts.shell.services import installation, resolved

BEST = "best"
"""In the address in the place of a placement: the optimum, although the draft has a map of its own."""


@dataclass(frozen=True)
class Work:
    """One plan and what it was made from."""

    question: Question
    resolved: ResolvedConfig
    """The model and the data set that it names."""
    config: TrainingConfig
    planner: Planner
    plan: Plan
    """What is shown: the optimum, or a placement made by hand, as it is."""
    is_by_hand: bool
    message: Message | None
    """What there is to say of this machine's devices."""
    refused: Message | None = None
    """Why the placement of the address is not the one that is shown."""

    def on(self, targets: tuple[Target, ...]) -> Planner:
        """A planner of this model for other devices."""
        links = self.planner.link_speed if targets == self.planner.targets else None
        return replace(self.planner, targets=targets, link_speed=links)


def read_question() -> Question:
    """The address, the draft that it names, and what a GPU hour costs here. Raises `ConfigError` where there is no such draft,
    it cannot be read, or the price is none."""
    params = dict(st.query_params)
    values = values_of_draft(params)
    return Question(params, {} if values is None else values, gpu_price(installation()))


def prepare(question: Question) -> Work:
    """Plan it. Raises `FlightdeckError` with one sentence; may wait for a trace."""
    config = question.config()
    named = resolved({"model_name": question.model, **config.model_dump(include={*TRAINED_ON})})
    planner, message = planner_for(named.config_json, trace, named.installation, question.gpus, config)
    placed, refused = _placement(question, planner, config)
    if placed is not None:
        return Work(question, named, config, planner, planner.score(config, placed), True, message)
    if config.strategy == "single" and len(planner.targets) > 1:
        plan = plan_single(planner, config, planner.targets)
    else:
        plan = planner.plan(config, question.options(config))
    return Work(question, named, config, planner, plan, False, message, refused)


def alone_on_one_gpu(work: Work) -> int | None:
    """How full, in percent, the goal `fewest` may make a GPU so that one holds beyond doubt what is split over several;
    None where none does, and where a split is asked for."""
    options = work.question.options(work.config)
    if work.plan.strategy != "layer_split" or options.force_balance:
        return None
    for percent in (work.question.value("max_utilisation"), 100):
        one = work.planner.plan(work.config, replace(options, goal="fewest", max_utilisation=percent / 100))
        if one.strategy == "single" and one.verdict == "fits":
            return int(percent)
    return None


def _placement(
    question: Question, planner: Planner, config: TrainingConfig
) -> tuple[tuple[int, ...] | None, Message | None]:
    text, given = question.params.get(addresses.PLACEMENT), question.base.get("device_map")
    if text == BEST or (text is None and not isinstance(given, dict)):
        return None, None
    profile = planner.profile(config)
    if text is None and isinstance(given, dict):
        return assignment_of(profile, given, planner.targets), None
    placed = placement_of(str(text), profile.num_units, len(planner.targets))
    if placed is not None:
        return placed, None
    return None, Message(
        Plural("The placement in this address is not for a model of {units} parts on {count} device, so the best one is shown.", "The placement in this address is not for a model of {units} parts on {count} devices, so the best one is shown."),
        {"units": profile.num_units, "count": len(planner.targets)},
    )  # fmt: skip


def with_targets(work: Work, targets: tuple[Target, ...], **changes: Any) -> Plan:
    """The best plan of the same question on other devices, with some keys changed."""
    config = with_changes(work.config, **changes)
    options = replace(work.question.options(config), force_balance=config.force_balance and len(targets) > 1)
    return work.on(targets).plan(config, options)
