"""What one start will hold, as its attempt keeps it; refused where it is more than there is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lora_backend.hardware.inventory import read_gpus
from lora_backend.preflight.placement import StartPlan, plan_start, refuse_what_does_not_fit
from lora_backend.preflight.planning import Trace
from lora_backend.runs.leases import holders, lease_keys
from lora_backend.runs.queue import ReadGpus, planned_bytes
from lora_backend.runs.waiting import leases_folder
from lora_backend.settings import Settings


def plan_attempt(
    values: Mapping[str, Any],
    settings: Settings,
    trace: Trace,
    *,
    anyway: bool = False,
    shares: bool = False,
    only: Sequence[str] | None = None,
) -> dict[str, Any]:
    """What an attempt's file says of its plan, on the GPUs with the UUIDs `only` where that is given.

    Raises `DoesNotFitError` where it is more than is free.
    """
    planned = plan_start(values, settings, trace, only=only)
    if not anyway and is_too_large(planned, settings):
        refuse_what_does_not_fit(planned, values)
    return planned.to_json() | ({"anyway": True} if anyway else {}) | ({"shares": True} if shares else {})


def is_too_large(planned: StartPlan, settings: Settings) -> bool:
    """Whether a start needs more memory than is free, and waiting for runs of ours would not help."""
    return planned.plan is not None and not planned.plan.fits and not waiting_helps(planned.to_json(), settings)


def waiting_helps(attempt: Mapping[str, Any], settings: Settings, read: ReadGpus = read_gpus) -> bool:
    """Whether a plan that does not fit now may fit when the runs end that hold its devices."""
    if not holders(leases_folder(settings.workspace), lease_keys(attempt)):
        return False
    needed, sizes = planned_bytes(attempt), {gpu.uuid: gpu.total_bytes for gpu in read().gpus}
    return all(size <= sizes.get(uuid, 0) for uuid, size in needed.items())
