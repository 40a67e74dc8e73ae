"""Profiles and counts made in a process of their own, for commands that must not load torch yet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from lora_backend.config.schema import TrainingConfig
from lora_backend.data.data_question import DataQuestion
from lora_backend.data.data_report import DataReport, report_of
from lora_backend.planning.cost.profile import Profile
from lora_backend.preflight.data_asked import COUNT_DEADLINE_S, Count
from lora_backend.preflight.plan_question import Trace
from lora_backend.worker_client import WorkerClient


@dataclass(frozen=True)
class Apart:
    """What a torch process is asked before a start."""

    trace: Trace
    count: Count


@contextmanager
def traced_apart() -> Iterator[Apart]:
    """A torch process, which is started at the first question and ends with the block. Its answers raise `WorkerError`
    where there are none."""
    client = WorkerClient()

    def trace(facts: Mapping[str, Any], config: TrainingConfig) -> Profile:
        return Profile.from_json(client.ask("profile", {"facts": dict(facts), "config": config.model_dump()}))

    def count(question: DataQuestion) -> DataReport:
        return report_of(client.ask("count_data", question.to_json(), COUNT_DEADLINE_S))

    try:
        yield Apart(trace, count)
    finally:
        client.close()
