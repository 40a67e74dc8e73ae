"""Loops of a step whose number of rounds grows with the tokens: scans over chunks, or over single tokens.

At three sizes such a loop leaves three recordings of unequal length. All rounds but a few are folded into one change: what
they leave together. So the recordings are of one length again, and each change can be told by how it grows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

LAST_ROUNDS = 2
"""Rounds that stay behind the fold. What is held grows by as much in each round, so that the peak is in the first or in one
of the last; the very last may be a part of one."""

EVENTS_BEHIND = 2
"""Of those behind a loop as many must agree; soon there may be another loop."""


class Events(NamedTuple):
    """What happened in a stretch of a step, in order."""

    kinds: NDArray[np.int64]
    """Which operation made or let go of it; equal where it may be the same line of code."""
    values: NDArray[np.float64]


def fold(seen: Sequence[Events], counts: Sequence[Sequence[int]]) -> list[NDArray[np.float64]] | None:
    """Values of the same events at each size, rounds that only some sizes have in one value; None where they do not match.

    `seen` has the smallest size first. `counts` are what a loop may go through (tokens, chunks), at each size.
    """
    if all(np.array_equal(other.kinds, seen[0].kinds) for other in seen):
        return [events.values for events in seen]
    at = [0] * len(seen)
    folded: list[list[NDArray[np.float64]]] = [[] for _ in seen]
    while True:
        same = _same(seen, at)
        found = _rounds(seen, [place + same for place in at], counts)
        if found is None:
            if any(place + same < len(events.kinds) for place, events in zip(at, seen, strict=True)):
                return None
            for events, place, out in zip(seen, at, folded, strict=True):
                out.append(events.values[place:])
            return [np.concatenate(out) for out in folded]
        period, extra = found
        back = min(LAST_ROUNDS * period, same)
        for index, (events, out) in enumerate(zip(seen, folded, strict=True)):
            start = at[index] + same - back
            first = events.values[start : start + min(period, back)]
            # The first of the rounds is gone through and undone: the peak may be in it, and ahead of all that is folded.
            out += [events.values[at[index] : start], first, -first[::-1]]
            out.append(events.values[start : start + extra[index]].sum(keepdims=True))
            at[index] = start + extra[index]
            # The rounds behind the fold are gone through once more, as the beginning of what comes.
            out.append(events.values[at[index] : at[index] + back])
            at[index] += back


def _same(seen: Sequence[Events], at: Sequence[int]) -> int:
    """How many events from these places on are the same in all."""
    first = seen[0].kinds[at[0] :]
    count = len(first)
    for events, place in zip(seen[1:], at[1:], strict=True):
        other = events.kinds[place:]
        shared = min(count, len(other))
        differs = np.flatnonzero(first[:shared] != other[:shared])
        count = int(differs[0]) if len(differs) else shared
    return count


def _rounds(seen: Sequence[Events], at: Sequence[int], counts: Sequence[Sequence[int]]) -> tuple[int, list[int]] | None:
    """Length of a round, and of all rounds that a size has beyond the fewest, where they begin at these places."""
    longest = seen[-1].kinds
    if at[-1] >= len(longest):
        return None
    for period in _periods(longest, at[-1]):
        extra = [_repeated(events.kinds, place, period) for events, place in zip(seen, at, strict=True)]
        fewest = min(extra)
        extra = [count - fewest for count in extra]
        behind = [place + count for place, count in zip(at, extra, strict=True)]
        if any(extra) and any(_are_in_step(extra, count) for count in counts) and _agree(seen, behind):
            return period, extra
    return None


def _are_in_step(extra: Sequence[int], counts: Sequence[int]) -> bool:
    """Whether as many events came as a loop makes that goes through so many."""
    more = [count - counts[0] for count in counts]
    return all(number * more[-1] == extra[-1] * step for number, step in zip(extra, more, strict=True))


def _periods(kinds: NDArray[np.int64], at: int) -> Iterator[int]:
    """Distances at which what stands here stood before, the shortest first."""
    yield from (at - int(place) for place in np.flatnonzero(kinds[:at] == kinds[at])[::-1])


def _repeated(kinds: NDArray[np.int64], at: int, period: int) -> int:
    """How many events from here on are as those one period before."""
    if at < period:
        return 0
    ahead = kinds[at:]
    differs = np.flatnonzero(ahead != kinds[at - period : len(kinds) - period])
    return int(differs[0]) if len(differs) else len(ahead)


def _agree(seen: Sequence[Events], at: Sequence[int]) -> bool:
    """Whether what comes next is the same in all, or nothing comes."""
    ahead = [events.kinds[place : place + EVENTS_BEHIND] for events, place in zip(seen, at, strict=True)]
    return all(np.array_equal(other, ahead[0]) for other in ahead)
