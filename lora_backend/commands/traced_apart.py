"""Profiles made in a process of their own, for commands that must not load torch yet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from lora_backend.config.schema import TrainingConfig
from lora_backend.planning.cost.profile import Profile
from lora_backend.preflight.plan_question import Trace
from lora_backend.worker_client import WorkerClient


@contextmanager
def traced_apart() -> Iterator[Trace]:
    """A trace by a torch process, which is started at the first question and ends with the block. Raises `WorkerError`
    where it does not answer."""
    client = WorkerClient()

    def trace(facts: Mapping[str, Any], config: TrainingConfig) -> Profile:
        return Profile.from_json(client.ask("profile", {"facts": dict(facts), "config": config.model_dump()}))

    try:
        yield trace
    finally:
        client.close()
