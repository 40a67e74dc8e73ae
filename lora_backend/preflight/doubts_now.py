"""A start that was planned before, as its devices are now: a run that waited is not asked about again, but it says so."""

from __future__ import annotations

from collections.abc import Iterator

from lora_backend.formats import size
from lora_backend.hardware.inventory import read_gpus, read_host
from lora_backend.i18n import N_, Message
from lora_backend.installation import Installation
from lora_backend.planning.verdict import verdict_of
from lora_backend.runs.processes.queue import ReadGpus
from lora_backend.runs.record.attempts import Attempt


def doubts_now(attempt: Attempt, installation: Installation, read: ReadGpus = read_gpus) -> Iterator[Message]:
    """Of an attempt's plan, one sentence for each device on which it is tight or over by what is free there now."""
    free = {gpu.uuid: gpu.free_bytes for gpu in read().gpus} | {
        None: read_host(installation.workspace).memory_available_bytes
    }
    plan = attempt.plan
    for device in plan.devices if plan else ():
        total, more, uuid = int(device.total_bytes), int(device.uncertainty_bytes), device.uuid
        if not total or uuid not in free or (uuid is None and device.index != "cpu"):
            continue
        if verdict_of(total, more, free[uuid]) != "fits":
            yield Message(
                N_("{name} has {free} free now. The plan expects {total} there, and up to {more} more."),
                {"name": device.name, "free": size(free[uuid]), "total": size(total), "more": size(more)},
            )  # fmt: skip
