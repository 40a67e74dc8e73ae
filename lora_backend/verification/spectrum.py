"""How much of a trained adapter each rank keeps: the singular values of its layers, and the ranks that follow from them."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from lora_backend.errors import ModelError
from lora_backend.formats import size
from lora_backend.i18n import N_


@dataclass(frozen=True)
class LayerSpectrum:
    """One LoRA layer."""

    name: str
    """Canonical, as the base model calls the module."""
    singular: tuple[float, ...]
    """Of scale·B·A, largest first, as many as the layer's rank. Of packed experts: for each place the root of the sum of
    squares over all experts, which share one rank."""
    bytes_per_rank: int
    """Of A and B together, as they are stored."""

    @property
    def rank(self) -> int:
        """The rank that it has now."""
        return len(self.singular)

    @cached_property
    def energies(self) -> tuple[float, ...]:
        """σ² of each direction; their sum is ‖scale·B·A‖² (Frobenius)."""
        return tuple(value * value for value in self.singular)

    def rank_for(self, energy: float) -> int:
        """The smallest rank, at least 1, that keeps this share of its energy. A layer that adds nothing needs 1."""
        total, kept = sum(self.energies), 0.0
        if energy >= 1 and total > 0:
            return self.rank
        for rank, part in enumerate(self.energies, start=1):
            kept += part
            if kept >= energy * total:
                return rank
        return max(1, self.rank)


@dataclass(frozen=True)
class AdapterSpectrum:
    """All layers of an adapter, and what of its file no rank changes."""

    layers: tuple[LayerSpectrum, ...]
    fixed_bytes: int
    """Header, magnitudes, biases, modules that are saved whole."""

    @property
    def highest(self) -> int:
        """The highest rank of a layer."""
        return max((layer.rank for layer in self.layers), default=0)

    @property
    def size_bytes(self) -> int:
        """As it is now."""
        return self.bytes_at({layer.name: layer.rank for layer in self.layers})

    @property
    def least_bytes(self) -> int:
        """With rank 1 everywhere."""
        return self.bytes_at(self.at_rank(1))

    def bytes_at(self, ranks: Mapping[str, int]) -> int:
        """Size of the file with these ranks; the header, a few bytes shorter then, counts as it is now."""
        return self.fixed_bytes + sum(layer.bytes_per_rank * ranks[layer.name] for layer in self.layers)

    def energy_at(self, ranks: Mapping[str, int]) -> float:
        """Share of Σ‖scale·B·A‖² over all layers that these ranks keep, from 0 to 1; 1 of an adapter that adds nothing."""
        total = sum(sum(layer.energies) for layer in self.layers)
        kept = sum(sum(layer.energies[: ranks[layer.name]]) for layer in self.layers)
        return min(kept / total, 1.0) if total > 0 else 1.0

    def at_rank(self, rank: int) -> dict[str, int]:
        """This rank at most in every layer. Raises `ModelError` for one below 1."""
        if rank < 1:
            raise ModelError(N_("An adapter cannot be truncated to rank {rank}. Choose 1 or more."), rank=rank)
        return {layer.name: min(rank, layer.rank) for layer in self.layers}

    def at_energy(self, energy: float) -> dict[str, int]:
        """In every layer the smallest rank that keeps this share of its energy. Raises `ModelError` outside of (0, 1]."""
        if not 0 < energy <= 1:
            raise ModelError(
                N_("An adapter cannot keep {energy} of its energy. Choose a share above 0 and up to 1, such as 0.99."),
                energy=f"{energy:g}",
            )
        return {layer.name: layer.rank_for(energy) for layer in self.layers}

    def within(self, max_bytes: int) -> dict[str, int]:
        """The ranks, at least 1, that keep most energy in a file of this size at most.

        A fractional knapsack taken greedily: the directions of all layers by energy per byte, largest first, each as far
        as it fits. Within a layer σ falls, so none is taken before a larger one of its own. Where every direction costs
        the same this is the optimum; else what the optimum keeps more is less than the energy of one direction (Dantzig,
        1957). Raises `ModelError` where rank 1 everywhere is too large already.
        """
        left = max_bytes - self.least_bytes
        if left < 0:
            raise ModelError(
                N_("With rank 1 in every layer the adapter takes {least}, more than {limit}. Allow at least that."),
                least=size(self.least_bytes),
                limit=size(max_bytes),
            )
        ranks = self.at_rank(1)
        waiting = [(-_density(layer, 1), place, 1) for place, layer in enumerate(self.layers) if layer.rank > 1]
        heapq.heapify(waiting)
        while waiting:
            _, place, rank = heapq.heappop(waiting)
            layer = self.layers[place]
            if layer.bytes_per_rank > left:  # the layer's next directions cost the same
                continue
            left -= layer.bytes_per_rank
            ranks[layer.name] = rank + 1
            if rank + 1 < layer.rank:
                heapq.heappush(waiting, (-_density(layer, rank + 1), place, rank + 1))
        return ranks

    def ranks_for(
        self, *, rank: int | None = None, energy: float | None = None, max_bytes: int | None = None
    ) -> dict[str, int]:
        """Layer → rank; of several limits the lowest counts. Raises `ModelError` for a limit that cannot be."""
        limits = [
            self.at_rank(rank) if rank is not None else None,
            self.at_energy(energy) if energy is not None else None,
            self.within(max_bytes) if max_bytes is not None else None,
        ]
        asked = [ranks for ranks in limits if ranks is not None]
        return {layer.name: min([layer.rank, *(ranks[layer.name] for ranks in asked)]) for layer in self.layers}

    def to_json(self) -> dict[str, Any]:
        """As it comes from the torch process."""
        return {"layers": [asdict(layer) for layer in self.layers], "fixed_bytes": self.fixed_bytes}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> AdapterSpectrum:
        """The other way round."""
        layers = (
            LayerSpectrum(layer["name"], tuple(layer["singular"]), layer["bytes_per_rank"]) for layer in data["layers"]
        )
        return cls(tuple(layers), data["fixed_bytes"])


def _density(layer: LayerSpectrum, place: int) -> float:
    return layer.energies[place] / layer.bytes_per_rank


def rank_grid(highest: int) -> list[int]:
    """1, 2, 4 … and the highest: where a curve over ranks is measured."""
    doubled: Iterable[int] = (2**power for power in range(max(highest, 1).bit_length()))
    return sorted({*(rank for rank in doubled if rank < highest), max(highest, 1)})
