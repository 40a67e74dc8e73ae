"""What the headers of a base model say of its modules: that they are there, and how wide they are."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from lora_backend.models.headers import TensorInfo

Shape = tuple[int, ...]
PLAIN = frozenset({"F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2"})
"""Types of weights that are stored as they are; of packed ones the shape says nothing."""
TRANSPOSED = {"gpt2": ("c_attn", "q_attn", "c_proj", "c_fc"), "openai-gpt": ("c_attn", "c_proj", "c_fc")}
"""Model type → modules that are a Conv1D, whose weight is (in, out)."""
HEADS = ("lm_head", "embed_out")
"""Names of output heads, which have no tensor of their own where they are tied to the embedding."""
_NUMBER = re.compile(r"(?:^|\.)(\d+)(?=\.)")


@dataclass(frozen=True)
class BaseHeaders:
    """A base model's `config.json` and the tensors of its files."""

    facts: Mapping[str, Any]
    tensors: Mapping[str, TensorInfo]

    @cached_property
    def modules(self) -> frozenset[str]:
        """Names of modules that have a tensor of their own."""
        return frozenset(name.rpartition(".")[0] for name in self.tensors)

    @cached_property
    def matrices(self) -> tuple[str, ...]:
        """Names of modules whose weight has two dimensions."""
        return tuple(
            name.removesuffix(".weight")
            for name, info in self.tensors.items()
            if len(info.shape) == 2 and name.endswith(".weight")
        )

    @cached_property
    def num_blocks(self) -> int:
        """0 where the config does not say."""
        text = self.facts.get("text_config")
        facts = text if isinstance(text, Mapping) else self.facts
        counts = (facts.get(key) for key in ("num_hidden_layers", "n_layer", "num_layers"))
        return next((count for count in counts if type(count) is int), 0)

    def weight(self, module: str) -> Shape | Literal["open"] | None:
        """Shape of a module's weight, `open` where the headers do not decide; None where there is no such module."""
        info = self.tensors.get(f"{module}.weight")
        if info is not None:
            return info.shape if info.dtype in PLAIN else "open"
        if module in HEADS:
            return self._tied_head or "open"
        if module in self.modules or module in self._endings:  # packed, or below a prefix that the files do not have
            return "open"
        if any(ending in self.modules for ending in _endings_of(module)):
            return "open"
        # A tied weight is in the files once, and every family calls its head as it likes (`cls.predictions.decoder`).
        return None if _NUMBER.search(module) else "open"

    def widths(self, module: str, shape: Shape) -> tuple[int, int]:
        """What goes into a linear layer and what comes out, by its weight's shape."""
        is_transposed = module.rpartition(".")[2] in TRANSPOSED.get(str(self.facts.get("model_type")), ())
        return (shape[0], shape[1]) if is_transposed else (shape[1], shape[0])

    @cached_property
    def _tied_head(self) -> Shape | None:
        """Shape of the embedding that the head is tied to; None where the files do not say so for certain."""
        rows = self.facts.get("vocab_size")
        found = [
            info.shape
            for name, info in self.tensors.items()
            if len(info.shape) == 2 and info.shape[0] == rows and not _NUMBER.search(name)
        ]
        return found[0] if self.facts.get("tie_word_embeddings") is True and len(found) == 1 else None

    @cached_property
    def _endings(self) -> frozenset[str]:
        return frozenset(ending for name in self.modules for ending in _endings_of(name))


def _endings_of(name: str) -> Iterator[str]:
    """A module's name without its first part, without its first two, …"""
    _, dot, rest = name.partition(".")
    while dot:
        yield rest
        _, dot, rest = rest.partition(".")
