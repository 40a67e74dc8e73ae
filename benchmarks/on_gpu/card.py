"""The one place that asks CUDA and NVML: what a part measures with, so that a test can hand in figures of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol


class Card(Protocol):
    """What the parts ask of the device that they train on."""

    name: str
    devices: tuple[str, ...]
    """As torch names them; the first is trained on."""

    def allocated_bytes(self) -> int: ...
    def peak_bytes(self) -> int:
        """The most that was allocated since `forget_peak`."""

    def forget_peak(self) -> None: ...
    def beside_tensors_bytes(self) -> int | None:
        """What the process holds on the card beside the allocator's memory: context and libraries, by NVML."""

    def wait(self) -> None:
        """Until all that was asked of the device is done."""


@dataclass
class CudaCard:
    """The GPUs that torch sees."""

    before_bytes: int | None
    """In use on the first by NVML, before this process had a context there."""

    def __init__(self) -> None:
        import torch

        self.before_bytes = _nvml_used()
        self.name = torch.cuda.get_device_name(0)
        self.devices = tuple(f"cuda:{index}" for index in range(torch.cuda.device_count()))

    def allocated_bytes(self) -> int:
        import torch

        self.wait()
        return int(torch.cuda.memory_allocated(0))

    def peak_bytes(self) -> int:
        import torch

        self.wait()
        return int(torch.cuda.max_memory_allocated(0))

    def forget_peak(self) -> None:
        import torch

        torch.cuda.reset_peak_memory_stats(0)

    def beside_tensors_bytes(self) -> int | None:
        import torch

        used = _nvml_used()
        if used is None or self.before_bytes is None:
            return None
        return used - self.before_bytes - int(torch.cuda.memory_reserved(0))

    def wait(self) -> None:
        import torch

        torch.cuda.synchronize()


def _nvml_used() -> int | None:
    import torch

    try:
        return int(torch.cuda.device_memory_used(0))
    except Exception:  # without nvidia-ml-py, or where the driver does not tell
        return None


def machine_of(card: Card | None) -> dict[str, Any]:
    """What a reader must know of the machine: card, driver's CUDA, and which packages differ from the pins."""
    import platform

    import torch

    return {
        "card": card.name if card else None,
        "num_gpus": len(card.devices) if card else 0,
        "cuda": torch.version.cuda,
        "python": platform.python_version(),
        "versions": versions(),
        "other_than_pinned": other_than_pinned(),
    }


PACKAGES = ("torch", "transformers", "peft", "accelerate", "bitsandbytes", "trl", "safetensors", "tokenizers")


def versions() -> dict[str, str | None]:
    """Installed ones, None where there is none."""
    from importlib.metadata import PackageNotFoundError, version

    found: dict[str, str | None] = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def other_than_pinned() -> list[str]:
    """`transformers 5.17.0 (pinned: 5.23.0)` for each package that is not as `requirements*.txt` pin it."""
    import re
    from pathlib import Path

    root = Path(__file__).parents[2]
    text = "".join((root / name).read_text() for name in ("requirements.txt", "requirements-dev.txt"))
    pins = dict(re.findall(r"^([A-Za-z0-9_.-]+)==([^\s;#]+)", text, re.MULTILINE))
    return [
        f"{name} {installed or 'is not installed'} (pinned: {pins[name]})"
        for name, installed in versions().items()
        if name in pins and (installed or "").partition("+")[0] != pins[name]
    ]
