"""What this machine computes on: the number format that a config means here, and memory as it is now."""

from __future__ import annotations

import re
import resource
from collections.abc import Iterator
from pathlib import Path

import psutil
import torch

from lora_backend.errors import DeviceError
from lora_backend.i18n import N_

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def resolve_precision(word: str) -> str:
    """`auto` → bf16 where the device computes it, else fp16 on a GPU, else fp32; other words stand for themselves."""
    if word != "auto":
        return word
    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    # Without instructions of its own for bf16 a CPU only emulates it, slower than fp32.
    return "bf16" if torch.cpu._is_avx512_bf16_supported() else "fp32"


def refuse_untrainable(precision: str) -> None:
    """Raise `DeviceError` where training in `precision` is not possible on this machine."""
    if torch.cuda.is_available():
        if precision == "bf16" and not torch.cuda.is_bf16_supported():
            raise DeviceError(N_("This GPU does not compute bf16. Set `precision: fp16`."))
        return
    if precision == "fp16":
        raise DeviceError(
            N_("fp16 trains on NVIDIA GPUs only, and there is none here. Set `precision: fp32` or `bf16`.")
        )


def memory_table() -> Iterator[str]:
    """A line per GPU (allocated, reserved, peak, free), or one for host memory without a GPU; in GiB.

    The host's peak is the process's since its start: nobody sets it back between stages.
    """
    for index in range(torch.cuda.device_count()):
        free_bytes, total_bytes = torch.cuda.mem_get_info(index)
        yield (
            f"cuda:{index} allocated {gib(torch.cuda.memory_allocated(index))}"
            f" · reserved {gib(torch.cuda.memory_reserved(index))}"
            f" · peak {gib(torch.cuda.max_memory_allocated(index))}"
            f" · free {gib(free_bytes)} of {gib(total_bytes)}"
        )
    if not torch.cuda.is_available():
        host, process = psutil.virtual_memory(), psutil.Process().memory_info()
        yield (
            f"host: this process {gib(process.rss)}"
            f" · peak {gib(_peak_bytes())}"
            f" · available {gib(host.available)} of {gib(host.total)}"
        )


def memory_in_use_bytes() -> int:
    """Allocated on all GPUs, or this process's resident memory without one."""
    if torch.cuda.is_available():
        return sum(torch.cuda.memory_allocated(index) for index in range(torch.cuda.device_count()))
    return int(psutil.Process().memory_info().rss)


def free_bytes(device: torch.device) -> int:
    """What this process could still take there, with what its own allocator holds in reserve."""
    if device.type != "cuda":
        return int(psutil.virtual_memory().available)
    reserved, allocated = torch.cuda.memory_reserved(device), torch.cuda.memory_allocated(device)
    return int(torch.cuda.mem_get_info(device)[0]) + reserved - allocated


def _peak_bytes() -> int:
    """The most that was resident of this process."""
    status = Path("/proc/self/status").read_text()
    found = re.search(r"^VmHWM:\s*(\d+) kB$", status, re.MULTILINE)
    # Kernels of some sandboxes leave it out; getrusage can name the peak of whoever started this process.
    return int(found[1]) * 1024 if found else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def gib(size_bytes: float) -> str:
    """Bytes as text in GiB (2**30)."""
    return f"{size_bytes / 2**30:.2f} GiB"
