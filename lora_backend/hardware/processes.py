"""Who uses a GPU: the processes that NVML names, and whose they are."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import psutil
import pynvml

from lora_backend.hardware.nvml import ask


@dataclass(frozen=True)
class GpuProcess:
    """A process that computes or draws on a GPU; `used_bytes` is what it holds there.

    What cannot be seen is None: user and name of a process in another container or hidden from this user, bytes
    where the driver does not tell them.
    """

    pid: int
    user: str | None
    name: str | None
    used_bytes: int | None


def read_processes(handle: Any) -> tuple[GpuProcess, ...]:
    """The processes on a GPU or MIG instance, largest first; none where the driver does not tell."""
    used: dict[int, int | None] = {}
    for newest, older in (
        (pynvml.nvmlDeviceGetComputeRunningProcesses_v3, pynvml.nvmlDeviceGetComputeRunningProcesses_v2),
        (pynvml.nvmlDeviceGetGraphicsRunningProcesses_v3, pynvml.nvmlDeviceGetGraphicsRunningProcesses_v2),
    ):
        entries = ask(newest, handle)
        for entry in ask(older, handle) or () if entries is None else entries:
            # One that computes and draws is listed twice, each time with all that it holds.
            known, told = used.get(entry.pid), entry.usedGpuMemory
            used[entry.pid] = told if known is None else max(known, told or 0)
    largest_first = sorted(used.items(), key=lambda item: (-(item[1] or 0), item[0]))
    return tuple(GpuProcess(pid, *_owner(pid), size) for pid, size in largest_first)


def _owner(pid: int) -> tuple[str | None, str | None]:
    user = name = None
    with suppress(psutil.Error):
        process = psutil.Process(pid)
        name = process.name()
        user = process.username()
    return user, name
