"""The placement with the shortest step: over all contiguous splits that fit, all subsets and all orders of the devices.

What a unit takes on a device does not depend on what else is there, so a step is the shortest way from the first boundary
to the last: a dynamic programme over the devices that are used and the boundary that they reach. Devices that are alike
are taken in their own order.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from lora_backend.planning.cost.step_time import Seconds, Transfers
from lora_backend.planning.split.partition import Costs, Device, Split, Stage, score

EQUALLY_FAST = 1.01
"""Times within a hundredth of the shortest count as equal, on no more devices: no estimate is more exact. Of those the
least full one wins."""
MAX_STEPS = 20_000
"""Ways from one device to the next that may be looked at; nearly all are seen to be too long before. Where links that
differ would make more, all count as the slowest of them; where devices that differ still do, the slowest are left out."""

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Used = tuple[int, ...]
"""The devices that are used, in ascending order."""
State = tuple[Used, int]
"""And the one that holds what comes before; −1 where every link is alike, and nobody asks which."""


@dataclass(frozen=True, eq=False)
class Speeds:
    """Seconds of one forward and backward pass."""

    units: Sequence[Seconds]
    """Per device (2, units)."""
    transfers: Transfers


def fastest_split(costs: Costs, devices: Sequence[Device], speeds: Speeds, max_utilisation: float) -> Split | None:
    """The shortest step with no device fuller than `max_utilisation`, or where nothing keeps within it, than 1; of those
    that are equally fast on no more devices the one with the least bottleneck. None where nothing fits."""
    usable = tuple(index for index, device in enumerate(devices) if device.capacity_bytes > 0)
    search = _Search(costs, devices, speeds, usable).within_limit()
    for bound in (min(max_utilisation, 1.0), 1.0):
        found = search.shortest(bound)
        if found is not None:
            stages = search.least_full(found, bound)
            return replace(score(costs, devices, stages), is_exact=search.is_exact)
    return None


@dataclass(frozen=True, eq=False)
class _Reached:
    """A state: for each boundary the least time to it, and how it was come to."""

    seconds: Floats
    before: Ints
    """The boundary before."""
    way: Ints
    """Which of `ways`."""
    ways: list[tuple[State, int]]
    """(the state before, the device from there on)"""


Found = tuple[float, tuple[Stage, ...]]


@dataclass(frozen=True, eq=False)
class _Search:
    costs: Costs
    devices: Sequence[Device]
    speeds: Speeds
    usable: Used
    links_differ: bool = True
    is_exact: bool = True

    @property
    def num_units(self) -> int:
        return len(self.costs.is_block)

    def within_limit(self) -> _Search:
        """This search, made smaller where it would take too long."""
        search = replace(self, links_differ=self._have_different_links())
        while search.num_steps > MAX_STEPS:
            if search.links_differ:
                search = replace(search, links_differ=False, is_exact=False)
            else:
                slowest = max(search.usable, key=lambda device: (float(self.speeds.units[device].sum()), device))
                search = replace(search, usable=tuple(d for d in search.usable if d != slowest), is_exact=False)
        return search

    @cached_property
    def num_steps(self) -> int:
        """An upper bound of the ways that are looked at: each set goes on to one more of each kind that it has not used up,
        and where links differ, from each first and each last device."""
        sets = math.prod(len(members) + 1 for members in self._alike)
        onward = sum(sets * len(members) // (len(members) + 1) for members in self._alike)
        return onward * (len(self._alike) ** 2 if self.links_differ else 1)

    def shortest(self, bound: float, longest: float = math.inf, most: int | None = None) -> Found | None:
        """The least time within a utilisation, and its stages; None where it takes longer than `longest`, or more devices
        than `most`."""
        tables = {device: self._table(device, bound) for device in self.usable}
        best: Found | None = None
        for first in self._next_ones(()) if self.links_differ else [None]:
            found = self._from(first, tables, longest if best is None else math.nextafter(best[0], 0.0), most)
            best = found or best
        return best

    def least_full(self, found: Found, bound: float) -> tuple[Stage, ...]:
        """Of the splits that are about as fast, the one whose fullest device is the least full."""
        longest, best = found[0] * EQUALLY_FAST, found[1]
        values = np.unique(np.concatenate([self._utilisation(device).ravel() for device in self.usable]))
        values = values[values <= bound]
        low, high = -1, len(values) - 1
        while high - low > 1:
            middle = (low + high) // 2
            tried = self.shortest(float(values[middle]), longest, len(found[1]))
            if tried is not None:
                high, best = middle, tried[1]
            else:
                low = middle
        return best

    def _from(self, first: int | None, tables: dict[int, Floats], longest: float, most: int | None) -> Found | None:
        """The shortest way that starts on one device, or on any, and takes no longer than that, nor more devices."""
        start: State = ((), -1)
        at_start = np.where(np.arange(self.num_units + 1) == 0, 0.0, np.inf)
        states = {start: _Reached(at_start, np.zeros(0, np.int64), np.zeros(0, np.int64), [])}
        layer, end = [start], None
        for _ in range(len(self.usable) if most is None else most):
            following: dict[State, _Reached] = {}
            for state in layer:
                used, last = state
                for device in self._next_ones(used) if used or first is None else [first]:
                    cost = tables[device]
                    if used:
                        cost = cost + self._hop(last, device) + self._side(device, first)
                    total = states[state].seconds[:, None] + cost
                    before = np.argmin(total, axis=0)
                    now = (tuple(sorted((*used, device))), device if self.links_differ else -1)
                    _merge(following, now, state, device, total[before, np.arange(self.num_units + 1)], before)
            for state, reached in following.items():
                whole = float(reached.seconds[-1]) + self._back(state, first)
                if whole < longest or (end is None and whole == longest < math.inf):
                    longest, end = whole, state
            states |= following
            # What cannot be done in time even on the fastest devices leads nowhere.
            layer = [
                state for state, reached in following.items() if (reached.seconds + self._rest <= longest)[:-1].any()
            ]
        return None if end is None else (longest, _stages(states, end, self.num_units))

    @cached_property
    def _rest(self) -> Floats:
        """(units + 1,): the least time from each boundary to the end, wherever the units are."""
        least = np.min([self.speeds.units[device].mean(axis=0) for device in self.usable], axis=0)
        # A hair less: sums in another order may differ in their last digits.
        return np.concatenate([np.cumsum(least[::-1])[::-1], [0.0]]) * (1 - 1e-9)

    # ----------------------------------------------------------------------------------------------- devices

    @cached_property
    def _alike(self) -> list[list[int]]:
        """Devices that need not be told apart."""
        found: list[list[int]] = []
        for device in self.usable:
            same = next((members for members in found if self._are_alike(members[0], device)), None)
            if same is None:
                found.append([device])
            else:
                same.append(device)
        return found

    def _are_alike(self, one: int, other: int) -> bool:
        if self.devices[one] != self.devices[other] or not np.array_equal(
            self.speeds.units[one], self.speeds.units[other]
        ):
            return False
        others = [device for device in self.usable if device not in (one, other)]
        return not self.links_differ or all(self._hop(one, third) == self._hop(other, third) for third in others)

    def _next_ones(self, used: Used) -> list[int]:
        """Of each kind the first device that is not used."""
        return [free[0] for members in self._alike if (free := [device for device in members if device not in used])]

    def _have_different_links(self) -> bool:
        hops = {float(self.speeds.transfers.hop(*pair).sum()) for pair in combinations(self.usable, 2)}
        return len(hops) > 1

    # ------------------------------------------------------------------------------- costs, in middle seconds

    def _utilisation(self, device: int) -> Floats:
        of = self.devices[device]
        upper = np.triu(np.ones_like(self.costs.interval_bytes, dtype=bool), 1)
        return np.where(upper, (self.costs.interval_bytes + of.overhead_bytes) / of.capacity_bytes, np.inf)

    def _table(self, device: int, bound: float) -> Floats:
        """[i, j]: units i to j − 1 on a device; infinite where they do not fit."""
        sums = np.concatenate([[0.0], np.cumsum(self.speeds.units[device].mean(axis=0))])
        return np.where(self._utilisation(device) <= bound, sums[None, :] - sums[:, None], np.inf)

    @cached_property
    def _slowest_link(self) -> tuple[int, int]:
        """The pair that stands for all of them where links are taken as alike."""
        pairs = list(combinations(self.usable, 2)) or [(self.usable[0], self.usable[0])]
        return max(pairs, key=lambda pair: float(self.speeds.transfers.hop(*pair).sum()))

    def _hop(self, one: int, other: int) -> float:
        pair = (one, other) if self.links_differ else self._slowest_link
        return float(self.speeds.transfers.hop(*pair).mean())

    def _side(self, device: int, first: int | None) -> Floats:
        """[i, j]: what units i to j − 1 need of the inputs' device."""
        pair = (device, first) if first is not None else self._slowest_link
        if pair not in self._sides:
            self._sides[pair] = self._side_of(pair)
        return self._sides[pair]

    @cached_property
    def _sides(self) -> dict[tuple[int, int], Floats]:
        return {}

    def _side_of(self, pair: tuple[int, int]) -> Floats:
        each = [float(self.speeds.transfers.side(unit, *pair).mean()) for unit in range(self.num_units)]
        sums = np.concatenate([[0.0], np.cumsum(each)])
        return np.asarray(sums[None, :] - sums[:, None])

    def _back(self, state: State, first: int | None) -> float:
        used, last = state
        if len(used) < 2:
            return 0.0
        pair = (last, first) if first is not None else self._slowest_link
        return float(self.speeds.transfers.back(*pair).mean())


def _merge(
    following: dict[State, _Reached], now: State, state: State, device: int, seconds: Floats, before: Ints
) -> None:
    """Keep the better way at every boundary."""
    known = following.get(now)
    if known is None:
        following[now] = _Reached(seconds, before, np.zeros(len(before), np.int64), [(state, device)])
        return
    known.ways.append((state, device))
    better = seconds < known.seconds
    following[now] = _Reached(
        np.where(better, seconds, known.seconds),
        np.where(better, before, known.before),
        np.where(better, len(known.ways) - 1, known.way),
        known.ways,
    )


def _stages(states: dict[State, _Reached], end: State, num_units: int) -> tuple[Stage, ...]:
    found: list[Stage] = []
    state, stop = end, num_units
    while state[0]:
        reached = states[state]
        start = int(reached.before[stop])
        before, device = reached.ways[int(reached.way[stop])]
        found.append(Stage(device, start, stop))
        state, stop = before, start
    return tuple(reversed(found))
