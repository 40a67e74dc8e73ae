"""The module tree of a base model as plain data: what transformers builds of its `config.json`, without a byte of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

VERSION = 1
"""Of what a tree holds: a kept one of another version is built anew."""


@dataclass(frozen=True)
class ModuleTree:
    """Names are those of the model in memory, which are not always those of its files."""

    model_type: str
    modules: Mapping[str, str]
    """Name → name of its class (`Linear`, `Embedding`, `Conv1D`, `MixtralExperts`, …), parents first."""
    parameters: Mapping[str, tuple[int, ...]]
    """Name → shape; of tied ones only the first."""
    tied: Mapping[str, str] = field(default_factory=dict)
    """Name of a parameter → the one that it is the same tensor as."""
    embedding: str | None = None
    """The module that takes tokens in."""
    head: str | None = None
    """The module that gives logits."""
    blocks: str | None = None
    """The list of decoder blocks."""
    num_blocks: int = 0
    linear: tuple[str, ...] = ()
    """Linear layers but the head: what `all-linear` stands for before anything is left out."""

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "version": VERSION}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ModuleTree:
        """The other way round; JSON's lists become tuples again."""
        values = {item.name: data[item.name] for item in fields(cls) if item.name in data}
        values["parameters"] = {name: tuple(shape) for name, shape in values["parameters"].items()}
        return cls(**{**values, "linear": tuple(values.get("linear", ()))})
