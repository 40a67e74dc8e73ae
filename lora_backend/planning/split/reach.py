"""How much of a model sets of devices can hold when no utilisation may pass a given bound.

A device's bytes grow with the interval of units that it holds. So under a bound the only thing that counts about a set
of devices is how far it reaches, and devices of equal capacity and overhead need not be told apart. What is computed
here runs from the end of the model to its start: for each set the least unit from which it holds all that follows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
ALWAYS = np.iinfo(np.int64).min
"""Stands where an interval would be empty: fits under any bound."""


@dataclass(frozen=True)
class Kind:
    """Devices that need not be told apart: equal capacity and overhead in bytes; `members` are device indices."""

    capacity_bytes: int
    overhead_bytes: int
    members: tuple[int, ...]

    def limit_bytes(self, bound: Fraction) -> int:
        """The most that units may take on one of these while utilisation stays within `bound`."""
        limit = bound.numerator * max(self.capacity_bytes, 1) // bound.denominator - self.overhead_bytes
        return min(limit, 2**62)

    def utilisation(self, unit_bytes: int) -> Fraction:
        """Where nothing is free one byte is taken as the capacity, so that less is still better than more."""
        return Fraction(unit_bytes + self.overhead_bytes, max(self.capacity_bytes, 1))


@dataclass(frozen=True)
class DeviceSets:
    """Every set of devices, known by how many of each kind it holds; small sets stand before large ones."""

    strides: tuple[int, ...]
    positions: Ints
    """Σ count·stride → where the set stands in the order."""
    layers: tuple[int, ...]
    """Sets of p devices stand at `layers[p]` to `layers[p + 1]`."""
    counts: Ints
    """(sets, kinds)"""
    pair_starts: Ints
    pair_kinds: Ints
    pair_smaller: Ints
    """For the set at position q and each kind in it (pairs `pair_starts[q]` to `pair_starts[q + 1]`): that kind, and
    where the set without one device of it stands."""

    def position(self, counts: Sequence[int]) -> int:
        """Where the set with so many of each kind stands."""
        return int(self.positions[sum(count * stride for count, stride in zip(counts, self.strides, strict=True))])


@lru_cache(maxsize=4)
def device_sets(kind_counts: tuple[int, ...]) -> DeviceSets:
    """All sets of devices of which there are so many of each kind; their number is the product of (count + 1)."""
    shape = tuple(count + 1 for count in kind_counts)
    strides = tuple(math.prod(shape[k + 1 :]) for k in range(len(shape)))
    number = np.arange(math.prod(shape))
    counts = np.stack(np.unravel_index(number, shape), axis=1).astype(np.int64)
    sizes = counts.sum(axis=1)
    order = np.argsort(sizes, kind="stable")
    positions = np.empty_like(order)
    positions[order] = number
    counts = counts[order]
    rows, kinds = np.nonzero(counts)
    return DeviceSets(
        strides=strides,
        positions=positions,
        layers=tuple(int(start) for start in np.searchsorted(sizes[order], np.arange(sum(kind_counts) + 2))),
        counts=counts,
        pair_starts=np.searchsorted(rows, np.arange(len(number) + 1)),
        pair_kinds=kinds,
        pair_smaller=positions[order[rows] - np.array(strides)[kinds]],
    )


class Problem:
    """Units, devices by kind, and whether every device must hold a block: all that does not depend on the bound."""

    def __init__(
        self, interval_bytes: Ints, is_block: Sequence[bool], kinds: Sequence[Kind], *, every_device: bool
    ) -> None:
        self.num_units = len(is_block)
        self.kinds = tuple(kinds)
        self.every_device = every_device
        self.num_devices = sum(len(kind.members) for kind in kinds)
        self.sets = device_sets(tuple(len(kind.members) for kind in kinds))
        boundaries = np.arange(self.num_units + 1)
        self.interval_bytes = np.where(boundaries[:, None] < boundaries, interval_bytes, ALWAYS)
        self.blocks_before = np.concatenate([[0], np.cumsum(is_block)]).astype(np.int64)
        num_blocks = int(self.blocks_before[-1])
        # What a device holds at least: one unit, or all up to and with the next block.
        self.least_stop = (
            np.searchsorted(self.blocks_before, self.blocks_before + 1) if every_device else boundaries + 1
        )
        self.last_start = (
            np.searchsorted(self.blocks_before, self.blocks_before - 1, "right") - 1 if every_device else boundaries - 1
        )
        # With every device in use, p devices at the end must leave a block to each of the others, and have one each.
        left = self.num_devices - np.arange(self.num_devices + 1)
        self.first_start = np.searchsorted(self.blocks_before, left) if every_device else np.zeros_like(left)
        taken = num_blocks - np.arange(self.num_devices + 1)
        self.last_reach = (
            np.searchsorted(self.blocks_before, taken, "right") - 1
            if every_device
            else np.full_like(left, self.num_units)
        )
        self._pair_offsets = self.sets.pair_kinds * (self.num_units + 2)

    def stops(self, bound: Fraction) -> Ints:
        """(kinds, units + 1): the furthest boundary to which one device holds all from each boundary on."""
        return np.stack([(self.interval_bytes <= kind.limit_bytes(bound)).sum(axis=1) - 1 for kind in self.kinds])

    def starts(self, bound: Fraction) -> Ints:
        """(kinds, units + 1): the least boundary from which one device holds all up to each boundary."""
        after = self.num_units + 1
        return np.stack([after - (self.interval_bytes <= kind.limit_bytes(bound)).sum(axis=0) for kind in self.kinds])

    @cached_property
    def minimal_bytes(self) -> tuple[int, int]:
        """Bytes of the least that a device must hold: where it is cheapest, and where it is dearest inside the model.

        Inside: neither the first device's part nor the last's, which reach an end of the model in any case.
        """
        before, num_blocks = self.blocks_before, self.blocks_before[-1]
        starts, stops = np.flatnonzero(before < num_blocks), np.flatnonzero(before > 0)
        pairs = {(int(i), int(self.least_stop[i])) for i in starts} | {(int(self.last_start[j]), int(j)) for j in stops}
        inside = [(i, j) for i, j in pairs if before[i] >= 1 and before[j] < num_blocks]
        cheapest = min(int(self.interval_bytes[i, j]) for i, j in pairs)
        return cheapest, max((int(self.interval_bytes[i, j]) for i, j in inside), default=0)

    def cover(self, bound: Fraction, num_devices: int | None = None) -> Cover:
        """What each set of up to `num_devices` devices can hold."""
        largest = self.num_devices if num_devices is None else num_devices
        dearest = self.minimal_bytes[1] if self.every_device else 0
        if self.every_device and any(dearest > kind.limit_bytes(bound) for kind in self.kinds):
            return Cover(self, bound, None, self._all_starts(bound))
        return Cover(self, bound, self._least_starts(bound, largest), None)

    def _least_starts(self, bound: Fraction, largest: int) -> Ints:
        """(sets,): the least boundary from which each set holds all to the end; units + 1 where it cannot.

        A set that reaches further is never worse: with `every_device` only because every device can hold the least
        part anywhere inside the model, so that nobody who is pushed along is left with a part too large.
        """
        none = self.num_units + 1
        starts = np.full((len(self.kinds), none + 1), none)
        starts[:, :none] = self.starts(bound)
        if self.every_device:
            starts[:, :none][starts[:, :none] > self.last_start] = none
        flat, sets = starts.ravel(), self.sets
        least = np.full(len(sets.counts), none)
        least[0] = self.num_units
        for size in range(1, largest + 1):
            first, last = sets.layers[size], sets.layers[size + 1]
            pairs = slice(int(sets.pair_starts[first]), int(sets.pair_starts[last]))
            reached = flat[self._pair_offsets[pairs] + least[sets.pair_smaller[pairs]]]
            found = np.minimum.reduceat(reached, sets.pair_starts[first:last] - pairs.start)
            least[first:last] = np.maximum(found, self.first_start[size])
        return least

    def _all_starts(self, bound: Fraction) -> NDArray[np.bool_]:
        """(sets, units + 1): every boundary from which each set holds all to the end, each device with a block.

        Needed where some device cannot hold every block: then reaching further can be worse.
        """
        sets, none = self.sets, self.num_units + 1
        stops = self.stops(bound).astype(np.int16)
        rows = np.zeros((len(sets.counts), none), dtype=np.bool_)
        rows[0, self.num_units] = True
        following = np.full((len(sets.counts), none + 1), none, dtype=np.int16)
        boundaries = np.arange(none, dtype=np.int16)
        for size in range(self.num_devices + 1):
            layer = slice(sets.layers[size], sets.layers[size + 1])
            pairs = slice(int(sets.pair_starts[layer.start]), int(sets.pair_starts[layer.stop]))
            owners = np.repeat(
                np.arange(layer.start, layer.stop), np.diff(sets.pair_starts[layer.start : layer.stop + 1])
            )
            for kind in range(len(self.kinds)):
                chosen = sets.pair_kinds[pairs] == kind
                # From a boundary this device goes to the next one that the rest can start at; a later one only if
                # that is in reach, so the next decides.
                next_start = following[sets.pair_smaller[pairs][chosen]][:, self.least_stop]
                rows[owners[chosen]] |= next_start <= stops[kind]
            at = np.where(rows[layer], boundaries, np.int16(none))
            following[layer, :none] = np.minimum.accumulate(at[:, ::-1], axis=1)[:, ::-1]
        return rows


@dataclass(frozen=True)
class Cover:
    """What every set of devices can hold within one bound: `least` (sets,) or, where that is not enough, `rows`."""

    problem: Problem
    bound: Fraction
    least: Ints | None
    rows: NDArray[np.bool_] | None

    def holders(self, size: int) -> Ints:
        """Positions of the sets of `size` devices that hold the whole model."""
        first, last = self.problem.sets.layers[size], self.problem.sets.layers[size + 1]
        holds = self.rows[first:last, 0] if self.rows is not None else self.least_of()[first:last] == 0
        return np.flatnonzero(holds) + first

    def least_of(self) -> Ints:
        """`least`, where it is known that it is enough."""
        assert self.least is not None
        return self.least

    def finishing(self, position: int, size: int, least: Ints | None = None) -> int:
        """Bit b is set where the set there, of `size` devices, holds all from boundary b on."""
        if self.rows is not None:
            return int.from_bytes(np.packbits(self.rows[position], bitorder="little").tobytes(), "little")
        start = int((self.least_of() if least is None else least)[position])
        return bits(start, int(self.problem.last_reach[size]))


def bits(first: int, last: int) -> int:
    """An integer with the bits `first` to `last` set; 0 where there are none."""
    return ((1 << (last - first + 1)) - 1) << first if first <= last else 0
