"""Which of the splits with the least bottleneck to take: the order of the devices, then the boundaries between them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from lora_backend.planning.split.reach import Cover, Ints, bits

NEVER = 2**61


def lowest_order(cover: Cover, size: int) -> tuple[int, ...]:
    """Devices in pipeline order, `size` of them, the fewest that hold the model within the bound.

    First the most capacity, so that the devices that are not the bottleneck have room as well; then the lowest device
    indices; then of the orders of those devices the one with the lowest indices from the start of the pipeline.
    """
    sets, kinds = cover.problem.sets, cover.problem.kinds

    def preference(position: int) -> tuple[int, list[int]]:
        pairs = list(zip(kinds, sets.counts[position].tolist(), strict=True))
        devices = sorted(device for kind, count in pairs for device in kind.members[:count])
        return -sum(count * kind.capacity_bytes for kind, count in pairs), devices

    total: list[int] = sets.counts[min(cover.holders(size).tolist(), key=preference)].tolist()
    counts, order, at, steps = list(total), [], 1, Steps(cover)
    for left in range(size - 1, -1, -1):
        for device, kind in sorted((kinds[k].members[total[k] - counts[k]], k) for k in range(len(kinds)) if counts[k]):
            counts[kind] -= 1
            reached = steps.onward(at, kind) & cover.finishing(sets.position(counts), left)
            if reached:
                at = steps.worth_keeping(reached)
                order.append(device)
                break
            counts[kind] += 1
    return tuple(order)


class Steps:
    """Where the next device can get to. A set of boundaries is an integer with their bits set."""

    def __init__(self, cover: Cover) -> None:
        self._furthest_is_best = cover.rows is None
        least_stop: list[int] = cover.problem.least_stop.tolist()
        stops: list[list[int]] = cover.problem.stops(cover.bound).tolist()
        self._spans = [[bits(least, stop) for least, stop in zip(least_stop, row, strict=True)] for row in stops]

    def onward(self, boundaries: int, kind: int) -> int:
        """All boundaries up to which a device of `kind` can hold from one of `boundaries` on."""
        reached = 0
        while boundaries:
            reached |= self._spans[kind][boundaries.bit_length() - 1]
            boundaries ^= 1 << (boundaries.bit_length() - 1)
        return reached

    def worth_keeping(self, boundaries: int) -> int:
        """The furthest alone, where a lesser one can lead to nothing that it does not."""
        return 1 << (boundaries.bit_length() - 1) if self._furthest_is_best else boundaries


def boundaries_of(cover: Cover, order: Sequence[int]) -> tuple[int, ...]:
    """Boundaries for devices in this order, from 0 to the number of units, that keep within the bound.

    Of those that do, the least Σ bytes² / capacity: without the bound that gives each device bytes in proportion to its
    capacity. Counted in integers, so that the result does not depend on the order of a sum. Between equals, early
    devices hold more.
    """
    problem = cover.problem
    weights = _weights(cover)
    kind_of = {device: index for index, kind in enumerate(problem.kinds) for device in kind.members}
    best = np.full(problem.num_units + 1, NEVER)
    best[0] = 0
    choices: list[Ints] = []
    for device in order:
        total = best[:, None] + weights[kind_of[device]]
        choice = problem.num_units - np.argmin(total[::-1], axis=0)
        best = np.minimum(total[choice, np.arange(problem.num_units + 1)], NEVER)
        choices.append(choice)
    return tuple(reversed(list(_walk_back(choices, problem.num_units))))


def _walk_back(choices: list[Ints], stop: int) -> Iterator[int]:
    yield stop
    for choice in reversed(choices):
        stop = int(choice[stop])
        yield stop


def _weights(cover: Cover) -> list[Ints]:
    """Per kind (units + 1, units + 1): what an interval adds to the sum that is minimised, `NEVER` where it may not be."""
    problem = cover.problem
    boundaries = np.arange(problem.num_units + 1)
    is_enough = boundaries >= problem.least_stop[:, None]
    allowed, shares = [], []
    for kind in problem.kinds:
        allowed.append(is_enough & (problem.interval_bytes <= kind.limit_bytes(cover.bound)))
        held = np.maximum(problem.interval_bytes, 0) + float(kind.overhead_bytes)
        # Where nothing is free nothing can be balanced.
        share = held**2 / kind.capacity_bytes if kind.capacity_bytes > 0 else np.zeros_like(held)
        shares.append(np.where(allowed[-1], share, 0.0))
    scale = 2.0**50 / (max(float(share.max()) for share in shares) or 1.0)
    return [
        np.where(fits, np.rint(share * scale), NEVER).astype(np.int64)
        for fits, share in zip(allowed, shares, strict=True)
    ]
