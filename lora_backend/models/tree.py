"""The module tree of a base model as plain data: what transformers builds of its `config.json`, without a byte of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from typing import Any

VERSION = 2
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
    targetable: tuple[str, ...] = ()
    """Modules that LoRA can be put on."""
    towers: tuple[str, ...] = ()
    """Modules beside the text model (vision, audio, projectors): text passes through none of them."""
    experts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Parameter that holds a matrix of every expert → the names that its parts have in the model's files (`w1`, `w3`)."""
    routers: tuple[str, ...] = ()
    """Modules that choose experts and are no linear layer; each holds its matrix as `weight`."""
    rewritten: tuple[str, ...] = ()
    """Endings that PEFT takes for experts and routers of this family, whatever module they stand for."""
    refused: tuple[str, ...] = ()
    """Modules that PEFT refuses to adapt in this family (Mamba's fused kernels read their weights)."""

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "version": VERSION}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ModuleTree:
        """The other way round; JSON's lists become tuples again."""
        values = {item.name: data[item.name] for item in fields(cls) if item.name in data}
        values = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
        for name in ("parameters", "experts"):
            values[name] = {key: tuple(value) for key, value in values.get(name, {}).items()}
        return cls(**values)

    def has(self, ending: str) -> bool:
        """Whether a module, or a matrix of experts, has a name that is `ending` or ends in it."""
        return any(f".{name}".endswith(f".{ending}") for name in self.names)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Of all modules, and of the experts' matrices as the model and as its files call them."""
        parts = (f"{name.rpartition('.')[0]}.{part}" for name, found in self.experts.items() for part in found)
        return tuple(dict.fromkeys((*self.modules, *self.experts, *parts)))

    def tower_of(self, name: str) -> str | None:
        """The tower that a module or parameter lies in."""
        return next((tower for tower in self.towers if f"{name}.".startswith(f"{tower}.")), None)

    def block_of(self, name: str) -> int | None:
        """Index of the decoder block that a module or parameter lies in."""
        if self.blocks is None or not name.startswith(f"{self.blocks}."):
            return None
        return int(name[len(self.blocks) + 1 :].partition(".")[0])

    @cached_property
    def all_linear(self) -> tuple[str, ...]:
        """Modules that `all-linear` means: the linear layers of the text model, without its head and those that PEFT
        refuses to adapt."""
        refused = set(self.refused)
        return tuple(name for name in self.linear if self.tower_of(name) is None and name not in refused)

    @cached_property
    def all_linear_parameters(self) -> tuple[str, ...]:
        """Parameters of experts and routers that `all-linear` means as well: none where PEFT leaves them out."""
        routers = tuple(f"{name}.weight" for name in self.routers if name.rpartition(".")[2] in self.rewritten)
        return (*self.experts, *routers) if self.rewritten else ()

    @cached_property
    def num_experts(self) -> int:
        """Experts of all blocks together."""
        holders = {name.rpartition(".")[0]: self.parameters[name][0] for name in self.experts}
        return sum(holders.values())
