"""The devices that a plan is made for: this machine's GPUs, GPUs that are not there, or the host."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lora_backend.hardware.catalog import CatalogGpu, find_gpu, parse_gpus
from lora_backend.hardware.inventory import Gpu, Host
from lora_backend.i18n import N_, Message

GIB = 2**30


@dataclass(frozen=True)
class Target:
    """One device; sizes in bytes."""

    device: int | str
    """As torch names it: 0 is `cuda:0`; or `cpu`."""
    name: str
    total_bytes: int
    held_bytes: int = 0
    """What others hold of it."""
    uuid: str | None = None
    """None for a device that is not there."""
    spec: CatalogGpu | None = None
    """What the catalogue knows of this card; None where it knows none of the name."""
    computes_bf16: bool = False
    """Of the host's cores: whether they have instructions for it. What a card computes is in `spec`."""

    @property
    def capacity_bytes(self) -> int:
        """What is there for us."""
        return max(self.total_bytes - self.held_bytes, 0)

    @property
    def is_cpu(self) -> bool:
        return self.device == "cpu"

    @property
    def label(self) -> str | Message:
        """`GPU 0 (RTX-4090)`, `GPU 1 (48 GiB)`: how sentences name it."""
        if self.is_cpu:
            return Message(N_("the CPU (host memory)"), {})
        return f"GPU {self.device} ({self.name.removeprefix('NVIDIA ').removeprefix('GPU ')})"

    def to_json(self) -> dict[str, Any]:
        return {
            "device": self.device,
            "name": self.name,
            "total_bytes": self.total_bytes,
            "held_bytes": self.held_bytes,
            "uuid": self.uuid,
            "computes_bf16": self.computes_bf16,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Target:
        return cls(
            data["device"],
            data["name"],
            data["total_bytes"],
            data["held_bytes"],
            data["uuid"],
            None if data["device"] == "cpu" else find_gpu(data["name"], data["total_bytes"]),
            data.get("computes_bf16", False),
        )


def of_machine(gpus: Sequence[Gpu]) -> tuple[Target, ...]:
    """Targets for GPUs in the order in which torch will number them, as much of them free as is free now."""
    return tuple(
        Target(index, gpu.name, gpu.total_bytes, gpu.used_bytes, gpu.uuid, find_gpu(gpu.name, gpu.total_bytes))
        for index, gpu in enumerate(gpus)
    )


def of_words(text: str) -> tuple[Target, ...]:
    """Targets for `24,12,8` (GiB) or `2xRTX-4090,A100-40G`. Raises `DeviceError` for what is neither."""
    return tuple(
        Target(index, gpu.name or f"GPU {gpu.total_bytes / GIB:g} GiB", gpu.total_bytes, spec=gpu.spec)
        for index, gpu in enumerate(parse_gpus(text))
    )


def of_host(host: Host) -> Target:
    """The host's memory as a device of its own."""
    held_bytes = host.memory_total_bytes - host.memory_available_bytes
    return Target("cpu", "CPU", host.memory_total_bytes, held_bytes, computes_bf16=host.computes_bf16)
