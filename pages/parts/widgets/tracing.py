"""A trace by the torch process that says how far it is on a status line; the plan page has one that can be cancelled."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from streamlit.elements.lib.mutable_status_container import StatusContainer

from lora_backend.config.schema import TrainingConfig
from lora_backend.data.data_question import DataQuestion
from lora_backend.data.data_report import DataReport, report_of
from lora_backend.planning.cost.profile import Profile
from lora_backend.preflight.data_asked import COUNT_DEADLINE_S, Count
from lora_backend.preflight.plan_question import Trace
from pages.parts.shell.language import say
from pages.parts.shell.services import worker

DEADLINE_S = 180.0


def count_within(status: StatusContainer) -> Count:
    """Counts of data sets from the torch process, likewise."""

    def count(question: DataQuestion) -> DataReport:
        answer = worker().ask(
            "count_data", question.to_json(), COUNT_DEADLINE_S, lambda message, _: status.update(label=say(message))
        )
        return report_of(answer)

    return count


def trace_within(status: StatusContainer) -> Trace:
    """Profiles from the torch process, with their progress as the label of `status`. They raise `WorkerError`."""

    def trace(facts: Mapping[str, Any], config: TrainingConfig) -> Profile:
        answer = worker().ask(
            "profile",
            {"facts": dict(facts), "config": config.model_dump()},
            DEADLINE_S,
            lambda message, _: status.update(label=say(message)),
        )
        return Profile.from_json(answer)

    return trace
