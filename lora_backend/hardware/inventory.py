"""This machine as plain data. NVML is asked through `pynvml`; torch is not needed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import psutil
import pynvml

from lora_backend.hardware.gpu_links import GpuLink, read_links
from lora_backend.hardware.nvml import ask
from lora_backend.hardware.processes import GpuProcess, read_processes
from lora_backend.i18n import N_, Message


@dataclass(frozen=True)
class Gpu:
    """One device that CUDA can compute on, as NVML sees it: a whole GPU, or one MIG instance of one.

    Sizes are in bytes, `compute_capability` is (major, minor). `index` is NVML's (PCI bus order; `visible_gpus` knows
    torch's); the instances of one GPU share it and name that GPU in `parent_uuid`. Where `uses_host_memory`, the GPU
    has no memory of its own and the sizes are the host's.
    """

    index: int
    uuid: str
    name: str
    total_bytes: int
    used_bytes: int
    compute_capability: tuple[int, int]
    processes: tuple[GpuProcess, ...] = ()
    parent_uuid: str | None = None
    uses_host_memory: bool = False
    utilization: float | None = None
    """Share of the driver's last sample (up to a second) in which a kernel ran; None where it does not tell (MIG)."""
    temperature_c: int | None = None
    """Of the chip, in degrees Celsius; None where the driver does not tell, as in the two below."""
    power_w: float | None = None
    """What it draws, in watts."""
    power_limit_w: float | None = None
    """What it may draw."""

    @property
    def free_bytes(self) -> int:
        return max(self.total_bytes - self.used_bytes, 0)


@dataclass(frozen=True)
class GpuInventory:
    """The GPUs in NVML's order and the links between them; where some or all are missing, why."""

    gpus: tuple[Gpu, ...]
    reason: Message | None = None
    links: tuple[GpuLink, ...] = ()


@dataclass(frozen=True)
class Host:
    """The machine beside its GPUs; sizes in bytes."""

    num_cores: int
    memory_total_bytes: int
    memory_available_bytes: int
    disk_total_bytes: int
    disk_free_bytes: int
    swap_total_bytes: int
    swap_free_bytes: int
    computes_bf16: bool = False
    """Whether the cores have instructions for products in bf16 (AVX512-BF16), as torch asks for it; else they emulate it."""


def read_gpus() -> GpuInventory:
    """Ask NVML. Never raises: what stands in the way is a sentence."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError_LibraryNotFound:
        return GpuInventory(
            (), Message(N_("No NVIDIA GPU here: this machine has no NVIDIA driver. Training runs on the CPU."))
        )
    except pynvml.NVMLError as error:
        return _no_gpus([_driver_failed(error)])
    try:
        return _ask_driver()
    finally:
        with suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()


def _ask_driver() -> GpuInventory:
    try:
        count = pynvml.nvmlDeviceGetCount()
    except pynvml.NVMLError as error:
        return _no_gpus([_driver_failed(error)])
    gpus: list[Gpu] = []
    whole: dict[str, Any] = {}
    reasons: list[Message] = []
    for index in range(count):
        try:  # one that is lost hides none of the others
            handle = pynvml.nvmlDeviceGetHandleByIndex(index)
            if not _in_mig_mode(handle):
                gpu = _read_gpu(index, handle)
                gpus.append(gpu)
                whole[gpu.uuid] = handle
                continue
            before = len(gpus)
            gpus.extend(_read_instances(index, handle))  # on an error, those before it stay
            if len(gpus) == before:
                reasons.append(
                    Message(
                        N_(
                            "GPU {index} is in MIG mode and has no instance to compute on: create one with `nvidia-smi mig`, or turn MIG off."
                        ),
                        {"index": index},
                    )
                )
        except pynvml.NVMLError as error:
            reasons.append(_gpu_failed(index, error))
    if not gpus:
        return _no_gpus(reasons)
    return GpuInventory(tuple(gpus), _together(reasons), read_links(whole))


def _no_gpus(reasons: list[Message]) -> GpuInventory:
    if not reasons:
        none_here = N_("The NVIDIA driver is installed, but it shows no GPU. Training runs on the CPU.")
        return GpuInventory((), Message(none_here))
    return GpuInventory((), Message(N_("{reason} Training runs on the CPU."), {"reason": reasons}))


def _together(reasons: list[Message]) -> Message | None:
    # Nothing but a value: there is nothing in it to translate.
    return Message("{reasons}", {"reasons": reasons}) if len(reasons) > 1 else next(iter(reasons), None)


def _driver_failed(error: Any) -> Message:
    if isinstance(error, pynvml.NVMLError_NoPermission):
        return Message(
            N_(
                "This user has no permission for the NVIDIA device files (/dev/nvidia*). Ask to be added to their group."
            )
        )
    if isinstance(error, pynvml.NVMLError_LibRmVersionMismatch):
        return Message(
            N_(
                "The NVIDIA driver was updated while its old version is still loaded: its library and its kernel module differ. Restart the machine."
            )
        )
    return Message(N_("The NVIDIA driver does not answer ({reason})."), {"reason": str(error)})


def _gpu_failed(index: int, error: Any) -> Message:
    if isinstance(error, pynvml.NVMLError_GpuIsLost):
        return Message(
            N_("GPU {index} is lost: it fell off the bus. Restart the machine to get it back."), {"index": index}
        )
    if isinstance(error, pynvml.NVMLError_NoPermission):
        return Message(
            N_("You have no permission to use GPU {index}: its device file under /dev is closed to this user."),
            {"index": index},
        )
    return Message(N_("GPU {index} does not answer ({reason})."), {"index": index, "reason": str(error)})


def _in_mig_mode(handle: Any) -> bool:
    current, _ = ask(pynvml.nvmlDeviceGetMigMode, handle) or (pynvml.NVML_DEVICE_MIG_DISABLE, None)
    return bool(current == pynvml.NVML_DEVICE_MIG_ENABLE)


def _read_instances(index: int, parent: Any) -> Iterator[Gpu]:
    parent_uuid = pynvml.nvmlDeviceGetUUID(parent)
    # NVML does not tell it of an instance.
    compute_capability = pynvml.nvmlDeviceGetCudaComputeCapability(parent)
    for place in range(pynvml.nvmlDeviceGetMaxMigDeviceCount(parent)):
        try:
            handle = pynvml.nvmlDeviceGetMigDeviceHandleByIndex(parent, place)
        except pynvml.NVMLError_NotFound:  # instances need not be numbered without gaps
            continue
        yield _read_gpu(index, handle, compute_capability, parent_uuid)


def _read_gpu(
    index: int, handle: Any, compute_capability: tuple[int, int] | None = None, parent_uuid: str | None = None
) -> Gpu:
    total_bytes, used_bytes, uses_host_memory = _read_memory(handle)
    return Gpu(
        index,
        pynvml.nvmlDeviceGetUUID(handle),
        pynvml.nvmlDeviceGetName(handle),
        total_bytes,
        used_bytes,
        tuple(compute_capability or pynvml.nvmlDeviceGetCudaComputeCapability(handle)),
        read_processes(handle),
        parent_uuid,
        uses_host_memory,
        _read_utilization(handle),
        ask(pynvml.nvmlDeviceGetTemperature, handle, pynvml.NVML_TEMPERATURE_GPU),
        _in_watts(ask(pynvml.nvmlDeviceGetPowerUsage, handle)),
        _in_watts(ask(pynvml.nvmlDeviceGetEnforcedPowerLimit, handle)),
    )


def _in_watts(milliwatts: int | None) -> float | None:
    return None if milliwatts is None else milliwatts / 1000


def _read_utilization(handle: Any) -> float | None:
    rates = ask(pynvml.nvmlDeviceGetUtilizationRates, handle)
    return None if rates is None else rates.gpu / 100


def _read_memory(handle: Any) -> tuple[int, int, bool]:
    try:
        memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
    except pynvml.NVMLError_NotSupported:  # GB10 and its like share the host's memory
        host = psutil.virtual_memory()
        return host.total, host.total - host.available, True
    return int(memory.total), int(memory.used), False


def read_host(folder: Path) -> Host:
    """Cores, memory, swap, and the disk that `folder` (or the nearest parent that exists) lies on."""
    memory, swap = psutil.virtual_memory(), psutil.swap_memory()
    while not folder.exists():
        folder = folder.parent
    disk = psutil.disk_usage(str(folder))
    return Host(
        psutil.cpu_count(logical=True) or 1,
        memory.total,
        memory.available,
        disk.total,
        disk.free,
        swap.total,
        swap.free,
        computes_bf16=_cores_compute_bf16(),
    )


@cache
def _cores_compute_bf16() -> bool:
    """By the kernel's word: torch is not asked here. False where there is none (not Linux)."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8", errors="replace").splitlines()
    except OSError:
        return False
    flags = next((line for line in lines if line.startswith("flags")), "")
    return "avx512_bf16" in flags.split()
