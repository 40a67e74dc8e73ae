"""LoRA layers as plain data: what their tensors look like, whoever read them."""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

WRAPPER_PREFIXES = (
    "base_model.model.",
    "module.",
    "_orig_mod.",
    "_fsdp_wrapped_module.",
    "_checkpoint_wrapped_module.",
)
"""What PEFT, DDP, `torch.compile`, FSDP and activation checkpointing put into names."""

WRAPPER_PARTS = frozenset({"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})
"""Those of them that are no module's own name anywhere, so that one at the end is a wrapper around the module itself."""

_WRAPPERS = re.compile(rf"(?:^|(?<=\.))(?:{'|'.join(map(re.escape, WRAPPER_PREFIXES))})")
_LAST_WRAPPERS = re.compile(rf"(?:\.(?:{'|'.join(sorted(WRAPPER_PARTS))}))+$")
_BASE_LAYER = re.compile(r"\.base_layer(?=\.|$)")
_NUMBERED_PART = re.compile(r"(?:^|\.)(\d+)(?=\.|$)")

Kind = Literal["linear", "embedding", "conv", "experts", "adalora", "merged"]
"""How rank and shapes hang together: see `ranks.rank_of`."""
Shape = tuple[int, ...] | None


class LoraLayer(NamedTuple):
    """One LoRA layer as its tensors are. None stands for what the reader could not see."""

    name: str
    """Canonical: without wrappers, as the base model calls the module (or `<module>.<parameter>`)."""
    shape_a: Shape
    shape_b: Shape
    kind: Kind = "linear"
    layer_r: int | None = None
    """What the live layer says of itself."""
    scaling: float | None = None
    """What the live layer multiplies its output by."""
    groups: int | None = 1
    """Of a grouped convolution; None for a folder, whose headers do not say."""
    num_experts: int | None = None
    """Of a three-dimensional expert parameter; None for a folder."""
    rule_name: str | None = None
    """The name that rank patterns are held against, where it is another (out_proj of a MultiheadAttention)."""
    zero_rows_a: int | None = None
    """Rows of A that are all zero."""
    adds_nothing: bool | None = None
    """Whether A, B (or AdaLoRA's E) is all zero, so that the layer changes nothing."""
    a_trains: bool | None = None
    b_trains: bool | None = None
    is_meta: bool = False
    is_partitioned: bool = False
    is_merged: bool = False
    in_features: int | None = None
    """Of the live Linear that LoRA stands on: with it a transposed A can be told for certain."""
    magnitude: Shape = None
    """Of DoRA's magnitude vector: one number for each output."""
    file_name: str = ""
    """The module as an adapter's file or the live model calls it, wrappers and all."""

    @property
    def pattern_name(self) -> str:
        """The name that rank patterns are held against."""
        return self.rule_name or self.name

    @property
    def block(self) -> int | None:
        """Index of the block that the layer stands in: the first number in its name."""
        return block_of(self.name)

    @property
    def module(self) -> str:
        """The last part of the name."""
        return self.name.rsplit(".", 1)[-1]


def block_of(name: str) -> int | None:
    """The first numbered part of a module's name, which is the block (later ones count experts)."""
    found = _NUMBERED_PART.search(name)
    return int(found[1]) if found else None


def canonical_name(name: str) -> str:
    """Take wrapper prefixes out of a module's name wherever they stand, and `.base_layer`."""
    plain = _WRAPPERS.sub("", name)
    plain = _BASE_LAYER.sub("", plain) if ".base_layer" in plain else plain
    return _LAST_WRAPPERS.sub("", plain) if "._" in plain else plain


def without_wrappers(name: str) -> str:
    """A parameter's name without the marks of compilation and sharding; one of PEFT's own keeps its prefix."""
    return ".".join(part for part in name.split(".") if part not in WRAPPER_PARTS) if "._" in name else name


def layer_of_tensor(name: str) -> str | None:
    """Canonical name of the LoRA layer that a tensor is part of; None for a bias or a module that is trained whole."""
    module, found, _ = name.partition(".lora_")
    return canonical_name(module) if found else None
