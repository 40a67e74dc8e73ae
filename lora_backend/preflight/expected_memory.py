"""What the memory model expects for the very pass that was measured, kept beside the measurement."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Protocol

from lora_backend.config.schema import TrainingConfig
from lora_backend.errors import FlightdeckError
from lora_backend.planning.cost.profile import Profile
from lora_backend.planning.cost.trace_settings import Batch
from lora_backend.planning.profile_store import ProfileStore
from lora_backend.preflight.plan_vs_measured import COMPONENTS, expected_by_device
from lora_backend.preflight.resolve import ResolvedConfig
from lora_backend.runs.record.attempts import Attempt, Expected, HeldTensors
from lora_backend.runs.record.run_store import RunStore

logger = logging.getLogger(__name__)


class BatchTrace(Protocol):
    """Traces the step of a model on one real batch."""

    def __call__(self, facts: Mapping[str, Any], config: TrainingConfig, *, batch: Batch) -> Profile: ...


def expected_here(
    resolved: ResolvedConfig, attempt: Attempt, trace: BatchTrace, rank: int | None = None
) -> list[HeldTensors]:
    """It by device, of several processes that of `rank`; asked of `trace` if need be, when training is over. Empty where
    nothing was measured, or it is not known.

    The plan knows the longest rows that may come. A real pass may have no padding, or fewer labels, which are other
    operations and so another profile.
    """
    store = ProfileStore(resolved.installation.profiles)

    def profile_of(step: TrainingConfig, batch: Batch) -> Profile:
        facts = resolved.config_json
        known = store.find(facts, step, batch)
        if known is None:
            known = trace(facts, step, batch=batch)
            store.save(facts, known)
        return known

    try:
        found = expected_by_device(attempt, resolved.config, profile_of, rank) or []
    except Exception as error:  # whatever a family's code raises: the run has its own end, or error, without it
        logger.warning("what was planned for the measured step is not known: %s", error)
        return []
    for device in found:
        total = sum(int(getattr(device, name) or 0) for name in COMPONENTS)
        logger.info("planned for the measured step, device %s: tensors %.2f GiB", device.device, total / 2**30)
    return found


def keep_expected(folder: RunStore, found: list[HeldTensors]) -> None:
    """Write it into the newest attempt, where it is known."""
    if not found:
        return
    try:
        with folder.changing_attempt() as known:
            known.expected = Expected(devices=found)
    except (FlightdeckError, OSError) as error:
        logger.warning("what was planned for the measured step is not kept: %s", error)
