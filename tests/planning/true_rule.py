"""What a placement takes, moment by moment: written apart from the planner, to hold it against.

A batch goes to the embedding's device; logits and loss stay on the head's, in every run and every call.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from itertools import permutations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lora_backend.planning.cost.profile import Part, Profile, Unit
from lora_backend.planning.cost.scaling import Size, Vector

GIB = 2**30
CONTEXT_BYTES, RESERVE = 500 * 2**20, 0.04


class _Bytes(NamedTuple):
    weights: float
    trained: float
    """Parameters."""
    forward_peak: float
    forward_delta: float
    backward_peak: float
    backward_delta: float
    side: float
    released: float


class Priced:
    """One model at one size, trained with AdamW and fp32 adapters on GPUs. Units: embedding, blocks, head if untied."""

    def __init__(self, profile: Profile, size: Size) -> None:
        values = profile.monomials(size)

        def at(vector: Vector) -> float:
            return float(vector @ values)

        def highest(part: Part) -> float:
            return max((at(peak) for peak in part.peaks), default=0.0)

        def bytes_of(unit: Unit) -> _Bytes:
            return _Bytes(
                unit.weights_bytes,
                unit.trainable(size.rank),
                highest(unit.forward),
                at(unit.forward.delta),
                highest(unit.backward),
                at(unit.backward.delta),
                at(unit.side_inputs),
                at(unit.released),
            )

        kinds = [bytes_of(kind) for kind in profile.kinds]
        self.is_tied = profile.is_tied
        self.embedding, self.head = bytes_of(profile.embed), bytes_of(profile.head)
        self.blocks = [kinds[kind] for kind in profile.kind_of_block]
        self.num_units = len(self.blocks) + (1 if profile.is_tied else 2)
        self._hidden = at(profile.hidden)
        self._returning, self._returned = highest(profile.returns), at(profile.returns.delta)

    def bottleneck(self, placed: Sequence[int], capacities: Sequence[float]) -> float:
        """The fullest device's bytes / capacity; `placed` has the device of each unit."""
        held = {device: [unit for unit, at in enumerate(placed) if at == device] for device in set(placed)}
        return max(self.bytes_on(units) / capacities[device] for device, units in held.items())

    def bytes_on(self, units: Sequence[int]) -> float:
        """The highest moment of a step, in its order, on the device with these units."""
        embedding = [self.embedding] if units[0] == 0 else []
        blocks = [self.blocks[unit - 1] for unit in units if 0 < unit <= len(self.blocks)]
        has_head = bool(embedding) if self.is_tied else units[-1] == self.num_units - 1
        head = [self.head] if has_head else []
        held = [*embedding, *blocks, *head]
        now, peak = 0.0 if embedding else self._hidden, 0.0
        for unit in held:
            now += 0.0 if embedding else unit.side
            peak = max(peak, now + unit.forward_peak)
            now += unit.forward_delta
        now -= sum(block.released for block in blocks)
        if head:
            peak = max(peak, now + self._returning)
            now += self._returned
        for unit in reversed(held):
            peak = max(peak, now + unit.backward_peak)
            now += unit.backward_delta
        trained = sum(unit.trained for unit in held)
        peak = max(peak, 4 * trained + 4 * trained)  # the optimizer's step: gradients and a copy
        return sum(unit.weights for unit in held) + (4 + 8) * trained + (1 + RESERVE) * peak + CONTEXT_BYTES

    def least_bottleneck(self, capacities: Sequence[float]) -> float:
        """Over all contiguous splits, subsets and orders of the devices."""
        best = math.inf
        for count in range(1, len(capacities) + 1):
            for order in permutations(range(len(capacities)), count):
                # to each boundary, the least fullness of the devices so far over every way to get there
                reached = np.where(np.arange(self.num_units + 1) == 0, 0.0, math.inf)
                for device in order:
                    reached = np.maximum(reached[:, None], self._intervals / capacities[device]).min(axis=0)
                best = min(best, float(reached[-1]))
        return best

    @cached_property
    def _intervals(self) -> NDArray[np.float64]:
        table = np.full((self.num_units + 1, self.num_units + 1), math.inf)
        for start in range(self.num_units):
            for stop in range(start + 1, self.num_units + 1):
                table[start, stop] = self.bytes_on(range(start, stop))
        return table
