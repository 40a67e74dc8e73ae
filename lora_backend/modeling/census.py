"""What a model holds, counted on the meta device: parameters, bytes of weights and trained tensors of each unit."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import torch
from torch import nn

from lora_backend.modeling.blocks import outer_modules
from lora_backend.modeling.meta import MetaModel, pack, signature, trained
from lora_backend.modeling.trace_sizes import attention_windows, max_positions, tile_tokens
from lora_backend.planning.cost.profile import NOTHING, Profile, Taken, Unit
from lora_backend.planning.cost.trace_settings import TraceSettings


class Census:
    """Counts a model that has all of its blocks, then puts the stand-ins of packed layers into it."""

    def __init__(self, meta: MetaModel, settings: TraceSettings, taken: Taken, rank: int) -> None:
        self._meta, self._settings, self._taken = meta, settings, taken
        names = outer_modules(meta.base, meta.blocks_path)
        of_outer = {name: _parameters(meta.base.get_submodule(name)) for name in names}
        self._parameters = {id(block): _parameters(block) for block in meta.blocks}
        self.total = sum(parameter.numel() for parameter in _parameters(meta.base))
        """Parameters of the whole base model; what is shared counts once."""
        pack(meta, settings.precision)
        self.outer = {name: meta.base.get_submodule(name) for name in names}
        self._parameters |= {id(module): of_outer[name] for name, module in self.outer.items()}
        self._blocks = list(meta.blocks)
        seen: set[int] = set()
        self._trained = {id(module): trained(module, rank, seen) for module in [*self.outer.values(), *self._blocks]}

    def profile(self, head: Collection[str], kept: Sequence[int], kind_of_block: Sequence[int]) -> Profile:
        """A profile in which nothing happens yet.

        `head` are those of the `outer` modules that run behind the blocks, `kept` a block of each kind, as they were
        when the census was made.
        """
        seen: set[int] = set()
        config = self._meta.base.config
        before, behind = ([m for name, m in self.outer.items() if (name in head) is wanted] for wanted in (False, True))
        is_tied = bool(self._ids(before) & self._ids(behind))
        embed = self._unit(before, seen)
        kinds = tuple(self._unit([self._blocks[index]], seen) for index in kept)
        last = self._unit(behind, seen)
        loose = _loose(self._meta.base, self._meta.blocks_path)
        loose_parameters = sum(tensor.numel() for tensor in loose if isinstance(tensor, nn.Parameter))
        loose_bytes = sum(tensor.numel() * tensor.element_size() for tensor in loose)
        return Profile(
            settings=self._settings,
            taken=self._taken,
            method="traced",
            expected_error=self._meta.packing.expected_error if self._meta.packing else 0.0,
            model_type=config.model_type,
            max_positions=max_positions(config),
            windows=attention_windows(config),
            tile_tokens=tile_tokens(config),
            is_tied=is_tied,
            blocks_path=self._meta.blocks_path,
            embed_modules=tuple(name for name in self.outer if name not in head),
            head_modules=tuple(name for name in self.outer if name in head),
            embed=Unit(embed.parameters + loose_parameters, embed.weights_bytes + loose_bytes, embed.trained),
            kinds=kinds,
            kind_of_block=tuple(kind_of_block),
            head=last,
            returns=NOTHING,
            hidden=NOTHING.delta,
        )

    def _unit(self, modules: Sequence[nn.Module], seen: set[int]) -> Unit:
        found = {id(parameter): parameter for module in modules for parameter in self._parameters[id(module)]}
        parameters = sum(parameter.numel() for key, parameter in found.items() if key not in seen)
        weights_bytes = sum(frozen_bytes(module, seen) for module in modules)
        seen.update(found)
        return Unit(
            parameters, weights_bytes, tuple(tensors for module in modules for tensors in self._trained[id(module)])
        )

    def _ids(self, modules: Sequence[nn.Module]) -> set[int]:
        return {id(parameter) for module in modules for parameter in self._parameters[id(module)]}


def kinds_of(blocks: nn.ModuleList) -> tuple[list[int], list[int]]:
    """A block for each kind, and the kind of each block.

    The first and the last are kinds of their own: what a block leaves to be let go by the next one stays behind the last.
    So are those before which nothing trains: their inputs need no gradient. And those that share weights with one before
    them (Zamba's attention): they are there once.
    """
    kinds: list[str] = []
    kind_of_block, kept = [], []
    is_reached = False
    earlier: set[int] = set()
    for index, block in enumerate(blocks):
        own = {id(parameter) for parameter in block.parameters()}
        kind = f"{is_reached} {bool(own & earlier)} {signature(block)}"
        kind = "first" if index == 0 else "last" if index == len(blocks) - 1 else kind
        earlier |= own
        if kind not in kinds:
            kinds.append(kind)
            kept.append(index)
        kind_of_block.append(kinds.index(kind))
        is_reached |= any(parameter.requires_grad for parameter in block.parameters())
    return kept, kind_of_block


def frozen_bytes(module: nn.Module, seen: set[int]) -> int:
    """Bytes of what does not train, of tensors not in `seen`; adds them to it."""
    size_bytes = 0
    frozen = [parameter for parameter in module.parameters() if not parameter.requires_grad]
    tensors: list[Any] = [*frozen, *module.buffers()]
    for tensor in tensors:
        if id(tensor) not in seen:
            seen.add(id(tensor))
            size_bytes += tensor.numel() * tensor.element_size()
    return size_bytes


def _loose(model: nn.Module, blocks_path: str) -> list[torch.Tensor]:
    """Tensors of the modules that hold the blocks, and of none inside of them (GPT-BigCode's mask, XLNet's embedding of
    masked words); they lie with the inputs."""
    parts = blocks_path.split(".")
    holders = [model.get_submodule(".".join(parts[:depth])) for depth in range(len(parts))]
    own = [tensor for holder in holders for tensor in (*holder._parameters.values(), *holder._buffers.values())]
    return [tensor for tensor in own if tensor is not None]


def _parameters(module: nn.Module) -> list[nn.Parameter]:
    """Of the base model: all but the adapter's."""
    named = module.named_parameters()
    return [p for name, p in named if "lora_" not in name and ".modules_to_save." not in f".{name}"]
