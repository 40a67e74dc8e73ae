"""Move a run that waits to other GPUs: plan it there, and let it wait for these."""

from __future__ import annotations

from collections.abc import Sequence

from lora_backend.errors import DeviceError
from lora_backend.hardware.inventory import read_gpus
from lora_backend.hardware.visible import unusable_together
from lora_backend.i18n import N_
from lora_backend.installation import Installation
from lora_backend.launching.run_config import resolve_run
from lora_backend.planning.verdict import Verdict
from lora_backend.preflight.path_policy import PathPolicy
from lora_backend.preflight.plan_question import Trace
from lora_backend.preflight.start_plan import plan_attempt
from lora_backend.runs.processes.queue import change_plan, start_or_queue
from lora_backend.runs.record.run_store import RunStore


def move_run(
    run: RunStore,
    installation: Installation,
    policy: PathPolicy,
    trace: Trace,
    uuids: Sequence[str],
    *,
    accepts: Verdict = "fits",
) -> None:
    """Plan a queued run on the GPUs `uuids` alone, which a `device_map` of its config names 0, 1, … in this order.

    Raises `DeviceError` for a GPU that is not there, or GPUs that no process can use together, `TightError` or
    `DoesNotFitError` as a launch does, `StateError` where the run waits no more or has another plan meanwhile, `DataError`, `ModelError` or
    `ConfigError` for a run that was copied here and names a path that `policy` forbids. Then it waits for what it waited for.
    """
    gpus = {gpu.uuid: gpu for gpu in read_gpus().gpus}
    missing = [uuid for uuid in uuids if uuid not in gpus]
    if missing or not uuids:
        raise DeviceError(N_("The driver does not show {gpus}."), gpus=", ".join(missing) or "–")
    chosen = [gpus[uuid] for uuid in uuids]
    if reason := unusable_together(chosen):
        raise DeviceError("{reason}", reason=reason)
    before = run.read_attempt()
    resolved = resolve_run(run, run.config_as_changed(), installation, policy)
    planned = plan_attempt(resolved, trace, accepts=accepts, shares=before.shares, only=uuids, meeting=before.meeting)
    change_plan(run, installation.workspace, planned, before)
    start_or_queue(run, installation.workspace)
