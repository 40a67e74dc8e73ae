"""Which order of the devices has the fastest links, among those that hold the model with the least bottleneck."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from lora_backend.planning.split.order import Steps
from lora_backend.planning.split.reach import Cover, Ints

FEW_LABELS = 50
MAX_LABELS = 1000
"""Part orders that are followed at once, at first and when those left some out. With eight devices or fewer the second
hardly ever leaves any out; beyond that the order is a good one, not always the best. The bottleneck does not depend on it.
"""

State = tuple[tuple[int, ...], int]
"""How many devices of each link class are used, and the class of the last one."""


class _Label(NamedTuple):
    """A part order from the start of the pipeline, and the boundaries that it can end at."""

    speed: int
    devices: tuple[int, ...]
    boundaries: int

    def is_no_worse(self, other: _Label) -> bool:
        return (
            self.speed >= other.speed
            and self.devices <= other.devices
            and (self.boundaries.bit_length() > other.boundaries.bit_length() or self.boundaries == other.boundaries)
        )


def link_speeds(num_devices: int, link_speed: Callable[[int, int], float]) -> list[list[int]] | None:
    """Speeds between devices as integers in one unit, so that sums compare exactly; None where all are alike.

    Asked once for each pair, with the lower index first.
    """
    exact = {(a, b): Fraction(link_speed(a, b)) for a in range(num_devices) for b in range(a + 1, num_devices)}
    if len(set(exact.values())) < 2:
        return None
    unit = math.lcm(*(speed.denominator for speed in exact.values()))
    whole = {pair: int(speed * unit) for pair, speed in exact.items()}
    return [[whole.get((min(a, b), max(a, b)), 0) for b in range(num_devices)] for a in range(num_devices)]


def fastest_order(cover: Cover, size: int, speeds: Sequence[Sequence[int]]) -> tuple[int, ...]:
    """Devices in pipeline order, `size` of them, the fewest that hold the model within the bound.

    The largest sum of `speeds[a][b]` over neighbours, then the most capacity, then the lowest device indices; of the
    part orders that were followed, where they were too many.
    """
    search = _Search(cover, size, speeds)
    found = search.grow(FEW_LABELS, None)
    assert found is not None, "every part order that is followed can be finished"
    if search.left_some_out:
        found = search.grow(MAX_LABELS, found.speed) or found
    return found.devices


class _Search:
    """Grows orders device by device; of those with the same devices used and the same last one it keeps the best."""

    def __init__(self, cover: Cover, size: int, speeds: Sequence[Sequence[int]]) -> None:
        self.size, self.speeds, self.left_some_out = size, speeds, False
        self._cover, self._steps = cover, Steps(cover)
        self._classes = _link_classes(cover, speeds)
        self._least = _least_by_size(cover, size)
        self._capacity = {device: kind.capacity_bytes for kind in cover.problem.kinds for device in kind.members}
        others = {a: sorted((speeds[a][b] for b in self._capacity if b != a), reverse=True) for a in self._capacity}
        self._fastest = {device: links[0] if links else 0 for device, links in others.items()}
        self._second = {device: links[1] if len(links) > 1 else 0 for device, links in others.items()}

    def grow(self, max_labels: int, beyond: int | None) -> _Label | None:
        """The best order of all devices, of those faster than `beyond`."""
        self.left_some_out = False
        layer: dict[State, list[_Label]] = {((0,) * len(self._classes), -1): [_Label(0, (), 1)]}
        for left in range(self.size - 1, -1, -1):
            following: dict[State, list[_Label]] = {}
            known: dict[tuple[int, ...], tuple[int, int]] = {}
            for (used, _), labels in layer.items():
                for index, (kind, members) in enumerate(self._classes):
                    if used[index] == len(members):
                        continue
                    now = (*used[:index], used[index] + 1, *used[index + 1 :])
                    if now not in known:
                        known[now] = self._finishing(now, left), self._most_to_come(now, left)
                    finishing, to_come = known[now]
                    device = members[used[index]]
                    for label in labels:
                        speed = label.speed + (self.speeds[label.devices[-1]][device] if label.devices else 0)
                        most = 2 * speed + (to_come + self._fastest[device] if left else 0)
                        if beyond is not None and most <= 2 * beyond:
                            continue
                        reached = self._steps.onward(label.boundaries, kind) & finishing
                        if reached:
                            grown = _Label(speed, (*label.devices, device), self._steps.worth_keeping(reached))
                            _keep(following.setdefault((now, index), []), grown)
            layer = self._best_of(following, max_labels)
        ends = [label for labels in layer.values() for label in labels]
        return min(ends, key=self._preference, default=None)

    def _preference(self, end: _Label) -> tuple[int, int, tuple[int, ...]]:
        return -end.speed, -sum(self._capacity[device] for device in end.devices), end.devices

    def _finishing(self, used: tuple[int, ...], left: int) -> int:
        """Boundaries from which `left` of the devices that are not used can hold the rest."""
        rest = [len(kind.members) for kind in self._cover.problem.kinds]
        for (kind, _), count in zip(self._classes, used, strict=True):
            rest[kind] -= count
        return self._cover.finishing(self._cover.problem.sets.position(rest), left, self._least[left])

    def _most_to_come(self, used: tuple[int, ...], left: int) -> int:
        """Twice the most that the links among `left` unused devices can add: each has two neighbours, the last one."""
        pairs = zip(self._classes, used, strict=True)
        unused = [device for (_, members), count in pairs for device in members[count:]]
        if not left:
            return 0
        most = sorted((self._fastest[device] + self._second[device] for device in unused), reverse=True)
        return sum(most[:left]) - min(self._second[device] for device in unused)

    def _best_of(self, layer: dict[State, list[_Label]], max_labels: int) -> dict[State, list[_Label]]:
        """At most `max_labels` of them, the fastest; what stays can always be finished."""
        if sum(map(len, layer.values())) <= max_labels:
            return layer
        self.left_some_out = True
        ranked = sorted(
            ((label, state) for state, labels in layer.items() for label in labels),
            key=lambda item: (-item[0].speed, item[0].devices),
        )
        kept: dict[State, list[_Label]] = {}
        for label, state in ranked[:max_labels]:
            kept.setdefault(state, []).append(label)
        return kept


def _keep(labels: list[_Label], grown: _Label) -> None:
    if not any(label.is_no_worse(grown) for label in labels):
        labels[:] = [label for label in labels if not grown.is_no_worse(label)]
        labels.append(grown)


def _least_by_size(cover: Cover, size: int) -> list[Ints | None]:
    """For p < `size`: per set the least boundary from which some p of its devices hold all to the end."""
    problem, sets = cover.problem, cover.problem.sets
    if problem.every_device:  # then what is left is used as it is
        return [None] * size
    if size == problem.num_devices:
        return [cover.least] * size
    found: list[Ints | None] = []
    for part in range(size):
        least = np.full(len(sets.counts), problem.num_units + 1)
        exact = slice(sets.layers[part], sets.layers[part + 1])
        least[exact] = cover.least_of()[exact]
        for larger in range(part + 1, problem.num_devices + 1):
            first, last = sets.layers[larger], sets.layers[larger + 1]
            pairs = slice(int(sets.pair_starts[first]), int(sets.pair_starts[last]))
            starts = sets.pair_starts[first:last] - pairs.start
            least[first:last] = np.minimum.reduceat(least[sets.pair_smaller[pairs]], starts)
        found.append(least)
    return found


def _link_classes(cover: Cover, speeds: Sequence[Sequence[int]]) -> list[tuple[int, tuple[int, ...]]]:
    """Kinds, told apart further by links: (kind, devices that have equal links to every other device)."""

    def are_alike(a: int, b: int) -> bool:
        return all(speeds[a][x] == speeds[b][x] for x in range(len(speeds)) if x not in (a, b))

    classes: list[tuple[int, list[int]]] = []
    for kind, of_kind in enumerate(cover.problem.kinds):
        for device in of_kind.members:
            alike = (members for k, members in classes if k == kind and are_alike(members[0], device))
            found = next(alike, None)
            if found is None:
                classes.append((kind, [device]))
            else:
                found.append(device)
    return [(kind, tuple(members)) for kind, members in classes]
