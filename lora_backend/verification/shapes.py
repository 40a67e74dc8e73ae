"""LoRA layers as plain data, read from an adapter folder's headers."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lora_backend.models.describe import read_json_object
from lora_backend.models.headers import TensorInfo, read_folder_headers

WRAPPER_PREFIXES = (
    "base_model.model.",
    "module.",
    "_orig_mod.",
    "_fsdp_wrapped_module.",
    "_checkpoint_wrapped_module.",
)
"""What PEFT, DDP, `torch.compile`, FSDP and activation checkpointing put into names."""


@dataclass(frozen=True)
class LoraLayer:
    """One LoRA layer as its tensors are."""

    name: str
    """Canonical: without wrappers, as the base model calls the module."""
    shape_a: tuple[int, ...] | None
    """Of lora_A: (r, in)."""
    shape_b: tuple[int, ...] | None
    """Of lora_B: (out, r)."""
    layer_r: int | None = None
    """What the live layer says of itself; None for a folder."""

    @property
    def block(self) -> int | None:
        """Index of the block that the layer stands in: the first number in its name."""
        found = re.search(r"\.(\d+)\.", f".{self.name}.")
        return int(found[1]) if found else None

    @property
    def module(self) -> str:
        """The last part of the name."""
        return self.name.rsplit(".", 1)[-1]


def canonical_name(name: str) -> str:
    """Take wrapper prefixes out of a module's name wherever they stand, and `.base_layer`."""
    for prefix in WRAPPER_PREFIXES:
        name = re.sub(rf"(^|\.){re.escape(prefix)}", r"\1", name)
    return name.replace(".base_layer", "")


def read_adapter_config(folder: Path) -> dict[str, Any] | None:
    """`adapter_config.json` of an adapter folder; None where it has none. Raises `ModelError` if it is unreadable."""
    path = folder / "adapter_config.json"
    return read_json_object(path) if path.is_file() else None


def lora_layers_of_folder(folder: Path) -> list[LoraLayer]:
    """All LoRA layers on Linear modules in a folder's safetensors headers, in the order of the file."""
    return pair_tensors(read_folder_headers(folder, "adapter_model"))


def pair_tensors(tensors: dict[str, TensorInfo]) -> list[LoraLayer]:
    """`….lora_A.weight` and `….lora_B.weight` of one module → one layer; a lone half leaves the other None."""
    shapes: dict[str, dict[str, tuple[int, ...]]] = {}
    for key, tensor in tensors.items():
        if match := re.fullmatch(r"(?P<module>.+)\.lora_(?P<half>[AB])\.(?:\w+\.)?weight", key):
            shapes.setdefault(canonical_name(match["module"]), {})[match["half"]] = tensor.shape
    return [LoraLayer(name, halves.get("A"), halves.get("B")) for name, halves in shapes.items()]
