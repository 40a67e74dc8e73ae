"""This machine as plain data. NVML is asked through `pynvml`; torch is not needed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import psutil
import pynvml

from lora_backend.i18n import N_, Message


@dataclass(frozen=True)
class Gpu:
    """One GPU as NVML sees it; sizes in bytes, `compute_capability` as (major, minor)."""

    index: int
    uuid: str
    name: str
    total_bytes: int
    used_bytes: int
    compute_capability: tuple[int, int]


@dataclass(frozen=True)
class GpuInventory:
    """The GPUs, and where there are none, why."""

    gpus: tuple[Gpu, ...]
    reason: Message | None = None


@dataclass(frozen=True)
class Host:
    """The machine beside its GPUs; sizes in bytes."""

    num_cores: int
    memory_total_bytes: int
    memory_available_bytes: int
    disk_total_bytes: int
    disk_free_bytes: int


def read_gpus() -> GpuInventory:
    """Ask NVML. Never raises: what stands in the way is a sentence."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError_LibraryNotFound:
        return GpuInventory(
            (), Message(N_("No NVIDIA GPU here: this machine has no NVIDIA driver. Training runs on the CPU."))
        )
    except pynvml.NVMLError as error:
        return GpuInventory(
            (),
            Message(
                N_("The NVIDIA driver does not answer ({reason}). Training runs on the CPU."), {"reason": str(error)}
            ),
        )
    gpus: list[Gpu] = []
    reason: Message | None = None
    try:
        for index in range(pynvml.nvmlDeviceGetCount()):
            try:
                gpus.append(_read_gpu(index))
            except pynvml.NVMLError as error:  # one that is lost hides none of the others
                reason = Message(N_("GPU {index} does not answer ({reason})."), {"index": index, "reason": str(error)})
        pynvml.nvmlShutdown()
    except pynvml.NVMLError as error:
        reason = Message(N_("The NVIDIA driver does not answer ({reason})."), {"reason": str(error)})
    if gpus:
        return GpuInventory(tuple(gpus), reason)
    none_here = Message(N_("The NVIDIA driver is there, but it shows no GPU. Training runs on the CPU."))
    return GpuInventory(
        (), Message(N_("{reason} Training runs on the CPU."), {"reason": reason}) if reason else none_here
    )


def _read_gpu(index: int) -> Gpu:
    handle = pynvml.nvmlDeviceGetHandleByIndex(index)
    memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
    return Gpu(
        index,
        _text(pynvml.nvmlDeviceGetUUID(handle)),
        _text(pynvml.nvmlDeviceGetName(handle)),
        int(memory.total),
        int(memory.used),
        tuple(pynvml.nvmlDeviceGetCudaComputeCapability(handle)),
    )


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def read_host(folder: Path) -> Host:
    """Cores, memory, and the disk that `folder` (or the nearest parent that exists) lies on."""
    memory = psutil.virtual_memory()
    while not folder.exists():
        folder = folder.parent
    disk = psutil.disk_usage(str(folder))
    return Host(psutil.cpu_count(logical=True) or 1, memory.total, memory.available, disk.total, disk.free)
