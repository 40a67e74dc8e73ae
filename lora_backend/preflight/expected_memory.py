"""What the memory model expects for the very pass that was measured, kept beside the measurement."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Protocol

from lora_backend.config.schema import TrainingConfig
from lora_backend.planning.cost.profile import Profile
from lora_backend.planning.cost.trace_settings import Batch
from lora_backend.planning.profile_store import ProfileStore
from lora_backend.preflight.plan_vs_measured import COMPONENTS, expected_by_device
from lora_backend.preflight.resolve import ResolvedConfig
from lora_backend.runs.record.attempts import Expected
from lora_backend.runs.record.run_store import RunStore

logger = logging.getLogger(__name__)


class BatchTrace(Protocol):
    """Traces the step of a model on one real batch."""

    def __call__(self, facts: Mapping[str, Any], config: TrainingConfig, *, batch: Batch) -> Profile: ...


def keep_expected(resolved: ResolvedConfig, folder: RunStore, trace: BatchTrace) -> None:
    """Write it into the newest attempt, where something was measured; asked of `trace` if need be, when training is over.

    The plan knows the longest rows that may come. A real pass may have no padding, or fewer labels, which are other
    operations and so another profile.
    """
    attempt = folder.read_attempt()
    store = ProfileStore(resolved.installation.profiles)

    def profile_of(step: TrainingConfig, batch: Batch) -> Profile:
        facts = resolved.config_json
        known = store.find(facts, step, batch)
        if known is None:
            known = trace(facts, step, batch=batch)
            store.save(facts, known)
        return known

    try:
        found = expected_by_device(attempt, resolved.config, profile_of)
        if found is None:
            return
        with folder.changing_attempt() as known:
            known.expected = Expected(devices=found)
    except Exception as error:  # whatever a family's code raises: the run has its own end, or error, without it
        logger.warning("what was planned for the measured step is not known: %s", error)
        return
    for device in found:
        total = sum(int(getattr(device, name) or 0) for name in COMPONENTS)
        logger.info("planned for the measured step, device %s: tensors %.2f GiB", device.device, total / 2**30)
