"""What a run's devices hold at this moment, beside what was planned for them."""

from __future__ import annotations

from dataclasses import dataclass

import psutil

from lora_backend.hardware.inventory import Gpu, read_gpus
from lora_backend.runs.processes.queue import ReadGpus
from lora_backend.runs.record.process_identity import is_alive
from lora_backend.runs.record.run_store import RunStore


@dataclass(frozen=True)
class GpuUsage:
    """One GPU of the run; bytes."""

    gpu: Gpu
    planned_bytes: int | None
    trainer_bytes: int | None
    """What the driver says that the run's own processes hold; None where it does not."""


@dataclass(frozen=True)
class Usage:
    """A moment."""

    gpus: tuple[GpuUsage, ...]
    trainer_bytes: int | None
    """Of host memory, the trainer and its children together; None without a living trainer."""
    host_used_bytes: int
    host_total_bytes: int


def usage(run: RunStore, read: ReadGpus = read_gpus) -> Usage:
    """Reads the driver, the run's attempt and its trainer's processes."""
    attempt = run.read_attempt()
    planned, uuids = attempt.planned_bytes, set(attempt.gpus)
    processes = _processes(run)
    found = []
    for gpu in read().gpus if uuids else ():
        if gpu.uuid in uuids:
            held = [process.used_bytes for process in gpu.processes if process.pid in processes and process.used_bytes]
            found.append(GpuUsage(gpu, planned.get(gpu.uuid), sum(held) if held else None))
    host = psutil.virtual_memory()
    return Usage(tuple(found), _held(processes), host.total - host.available, host.total)


def _processes(run: RunStore) -> dict[int, psutil.Process]:
    attempt = run.read_status().attempt
    trainer = attempt.trainer or attempt.child
    try:
        root = psutil.Process(trainer.pid) if trainer and is_alive(trainer) else None
        return {process.pid: process for process in [root, *root.children(recursive=True)]} if root else {}
    except psutil.Error:  # it has just ended
        return {}


def _held(processes: dict[int, psutil.Process]) -> int | None:
    total = 0
    for process in processes.values():
        try:
            total += process.memory_info().rss
        except psutil.Error:
            continue
    return total or None
