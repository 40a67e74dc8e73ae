"""The best split of a model over unequal devices: the exact least bottleneck over all contiguous splits.

For a bound on the utilisation `reach.py` says what every set of devices can hold; the least bound under which one set
holds the whole model is searched among the values that a utilisation can take, so no tolerance is involved. `order.py`
and `links.py` then choose among the splits that reach it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Literal

import numpy as np

from lora_backend.errors import DeviceError
from lora_backend.i18n import N_, Plural
from lora_backend.planning.split.links import fastest_order, link_speeds
from lora_backend.planning.split.order import boundaries_of, lowest_order
from lora_backend.planning.split.reach import Cover, Ints, Kind, Problem

MAX_SETS = 2**17
"""Sets of devices that are looked at: 17 devices that all differ. With more, the most alike are taken as equal."""


@dataclass(frozen=True)
class Device:
    """One GPU as the partition sees it; devices with equal values are interchangeable."""

    capacity_bytes: int
    """What is there for us; where this is 0 or less the device is not used."""
    overhead_bytes: int = 0
    """Context, workspace, reserve: added to whatever the device holds. A device that holds nothing has none."""


@dataclass(frozen=True, eq=False)
class Costs:
    """What consecutive units (embedding, blocks, head) take on one device; below 2**53 bytes.

    With tied weights the head's cost belongs to the unit of the embedding, or both to one unit.
    """

    interval_bytes: Ints
    """(units + 1, units + 1): [i, j] is the peak of units i to j − 1 on one device, for i < j. A larger interval never
    takes less. What stands at i ≥ j is not read."""
    is_block: tuple[bool, ...]
    """Per unit."""

    def __post_init__(self) -> None:
        num_units = len(self.is_block)
        assert num_units > 0
        assert self.interval_bytes.shape == (num_units + 1, num_units + 1)
        upper = np.triu(self.interval_bytes, 1)
        assert (upper >= 0).all()
        assert (np.diff(upper, axis=1) >= 0)[np.triu_indices(num_units)].all(), "one more unit must not take less"
        assert (np.diff(upper, axis=0) <= 0)[:, 1:][np.triu_indices(num_units)].all(), "one unit less took more"


@dataclass(frozen=True)
class Stage:
    """Units `start` to `stop` − 1 on the device with this index."""

    device: int
    start: int
    stop: int


@dataclass(frozen=True)
class Split:
    """Stages in pipeline order, and how full the fullest device is."""

    stages: tuple[Stage, ...]
    bottleneck: float
    """The largest (bytes + overhead) / capacity: over 1 where it does not fit, infinite on a device without capacity."""
    is_exact: bool = True
    """False where devices had to be taken as alike that are not (more than `MAX_SETS` sets of them)."""

    @property
    def assignment(self) -> tuple[int, ...]:
        """The device of each unit."""
        return tuple(stage.device for stage in self.stages for _ in range(stage.start, stage.stop))


def partition(
    costs: Costs,
    devices: Sequence[Device],
    *,
    every_device: bool = False,
    goal: Literal["balance", "fewest"] = "balance",
    max_utilisation: float = 0.9,
    link_speed: Callable[[int, int], float] | None = None,
) -> Split:
    """The split with the least bottleneck over all contiguous splits, subsets and orders of the devices.

    Always one split, also where nothing fits: then its bottleneck is over 1. Between equals (compared exactly) the fewest
    devices win, then the largest sum of `link_speed(a, b)` (a < b, any one unit) between neighbours, then the most
    capacity, then the lowest device indices, standing in their own order as far as that goes. Boundaries that the bottleneck leaves free follow the devices' capacities.

    `every_device`: each device holds at least one block, whatever it costs. `goal="fewest"`: as few devices as keep
    within `max_utilisation`, with the least bottleneck for so many; where no number does, as "balance".

    Raises `DeviceError` where there is no device, or with `every_device` fewer blocks than devices.
    """
    if not devices:
        raise DeviceError(N_("There is no device to place the model on."))
    num_blocks = sum(costs.is_block)
    if every_device and num_blocks < len(devices):
        raise DeviceError(
            Plural(
                "With `force_balance` every device holds at least one block, but there are {devices} devices and only {count} block. Leave devices out, or set `force_balance: false`.",
                "With `force_balance` every device holds at least one block, but there are {devices} devices and only {count} blocks. Leave devices out, or set `force_balance: false`.",
            ),
            devices=len(devices),
            count=num_blocks,
        )
    usable = [index for index, device in enumerate(devices) if every_device or device.capacity_bytes > 0]
    usable = usable or [0]  # where no device has any capacity all splits are equally bad: the fewest, the lowest
    kinds, is_exact = _kinds_of(devices, usable)
    problem = Problem(costs.interval_bytes, costs.is_block, kinds, every_device=every_device)
    size = len(usable) if every_device else None
    if goal == "fewest" and not every_device:
        size = _fewest(problem.cover(Fraction(str(max_utilisation))))
    cover = problem.cover(_least_bound(problem, size or len(usable)))
    size = size or _fewest(cover)
    assert size is not None
    speeds = link_speeds(len(devices), link_speed) if link_speed is not None else None
    order = fastest_order(cover, size, speeds) if speeds is not None else lowest_order(cover, size)
    cuts = boundaries_of(cover, order)
    stages = [Stage(device, *cut) for device, cut in zip(order, pairwise(cuts), strict=True)]
    return Split(tuple(stages), score(costs, devices, stages).bottleneck, is_exact)


def score(costs: Costs, devices: Sequence[Device], stages: Sequence[Stage]) -> Split:
    """How full a given contiguous split makes its fullest device; the split is taken as it is.

    Raises `DeviceError` where a stage names no device, a device has two stages, or a unit is not held exactly once.
    """
    for stage in stages:
        check_device(stage.device, len(devices))
    cuts = [stage.start for stage in stages] + [len(costs.is_block)]
    is_whole = cuts[0] == 0 and all(
        stage.start < stage.stop == following for stage, following in zip(stages, cuts[1:], strict=True)
    )
    if not is_whole:
        raise DeviceError(N_("The placement must hold every part of the model once, in the model's order."))
    if len({stage.device for stage in stages}) < len(stages):
        raise DeviceError(N_("The placement names one device for two separate parts of the model."))
    return Split(
        tuple(stages),
        max(utilisation(int(costs.interval_bytes[s.start, s.stop]), devices[s.device]) for s in stages),
    )


def utilisation(unit_bytes: int, device: Device) -> float:
    """(bytes + overhead) / capacity of a device that holds something; infinite where it has no capacity."""
    if device.capacity_bytes <= 0:
        return math.inf
    return (unit_bytes + device.overhead_bytes) / device.capacity_bytes


def check_device(device: int, num_devices: int) -> None:
    """Raise `DeviceError` where there is no device with this index."""
    if not 0 <= device < num_devices:
        raise DeviceError(
            N_("There is no device {device}: the devices are numbered 0 to {last}."),
            device=device,
            last=num_devices - 1,
        )


def _kinds_of(devices: Sequence[Device], usable: Sequence[int]) -> tuple[list[Kind], bool]:
    """Devices by (capacity, overhead), and whether that is exact.

    Where there are too many sets to look at, the two kinds nearest to each other become one that is as small as the
    smaller: what is planned for it fits on both.
    """
    members: dict[tuple[int, int], list[int]] = {}
    for index in usable:
        device = devices[index]
        members.setdefault((max(device.capacity_bytes, 0), device.overhead_bytes), []).append(index)
    found = [Kind(capacity, overhead, tuple(of_kind)) for (capacity, overhead), of_kind in sorted(members.items())]
    is_exact = True
    while math.prod(len(kind.members) + 1 for kind in found) > MAX_SETS and len(found) > 1:
        is_exact = False
        gaps = [(b.capacity_bytes - a.capacity_bytes) / max(b.capacity_bytes, 1) for a, b in pairwise(found)]
        at = gaps.index(min(gaps))
        low, high = found[at : at + 2]
        overhead = max(low.overhead_bytes, high.overhead_bytes)
        together = Kind(low.capacity_bytes, overhead, tuple(sorted(low.members + high.members)))
        found[at : at + 2] = [together]
    return found, is_exact


def _fewest(cover: Cover) -> int | None:
    """The fewest devices that hold the model within the bound, or None."""
    return next((size for size in range(1, cover.problem.num_devices + 1) if cover.holders(size).size), None)


def _least_bound(problem: Problem, size: int) -> Fraction:
    """The least utilisation under which some set of `size` devices (or, unless all must be used, a part of it) holds all.

    Only values that an interval gives on a device come into question. As floating point they may fall together, never
    change places (a division rounds monotonically); so they are searched as such, then told apart exactly.
    """
    numerators = np.unique(problem.interval_bytes[np.triu_indices(problem.num_units + 1, 1)])
    overheads = np.array([kind.overhead_bytes for kind in problem.kinds])
    capacities = np.array([float(max(kind.capacity_bytes, 1)) for kind in problem.kinds])
    values = (numerators + overheads[:, None]).astype(np.float64) / capacities[:, None]

    def holds(bound: Fraction) -> bool:
        return problem.cover(bound, size).holders(size).size > 0

    def exact(value: float) -> list[Fraction]:
        """The utilisations that `value` stands for, in order."""
        found: set[Fraction] = set()
        for kind, row in zip(problem.kinds, values, strict=True):
            first, last = np.searchsorted(row, value, "left"), np.searchsorted(row, value, "right")
            found.update(kind.utilisation(int(number)) for number in numerators[first:last])
        return sorted(found)

    floor = 0.0
    if problem.every_device:  # the device with the least room holds at least the cheapest block
        floor = max(float(kind.utilisation(problem.minimal_bytes[0])) for kind in problem.kinds)
    ordered = np.sort(values[values >= floor])
    low, high = -1, len(ordered) - 1  # does not hold, holds: at the last value any interval fits anywhere
    middle = 0 if problem.every_device else high // 2  # a device with hardly any room often decides by itself
    while high - low > 1:
        if holds(exact(float(ordered[middle]))[-1]):
            high = middle
        else:
            low = middle
        middle = (low + high) // 2
    candidates = exact(float(ordered[high]))
    return next((bound for bound in candidates[:-1] if holds(bound)), candidates[-1])
