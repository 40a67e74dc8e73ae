"""One optimizer step in time: which device works when, and when it waits. From the very times that `estimate` sums.

Of a layer split one device works while the others wait. Of several processes each computes its own micro-batch and waits
for the slowest; with fsdp they gather weights, and at the end they sum their gradients.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

import numpy as np

from lora_backend.config.schema import TrainingConfig
from lora_backend.planning.cost.directions import Stretch, directed_seconds, stretches_of
from lora_backend.planning.cost.scaling import Vector
from lora_backend.planning.cost.step_time import Seconds, Transfers
from lora_backend.planning.estimate import Conditions, values_of
from lora_backend.planning.plan import DevicePlan, Plan
from lora_backend.planning.processes.dealt import passes_of, rounds_of
from lora_backend.planning.processes.step_seconds import shared_parts

Kind = Literal["forward", "backward", "transfer", "gather", "sum", "idle"]
"""`transfer`: hidden states and their gradient, on their way to this device. `gather`: weights that fsdp fetches while
nothing computes. `sum`: gradients of all processes. `idle`: it waits."""
WORKING: tuple[Kind, ...] = ("forward", "backward")
Range = tuple[float, float]


@dataclass(frozen=True)
class Segment:
    """A stretch of a device's time. Its ends are ranges: if all is as fast as is likely, and as slow."""

    kind: Kind
    turn: int
    """The pass of the step that it belongs to, from 0; what comes behind the passes belongs to the last."""
    start_s: Range
    end_s: Range
    blocks: tuple[int, ...] = ()
    """That are computed in it."""

    @property
    def mean_s(self) -> tuple[float, float]:
        """Start and end in the middle of their ranges, as a picture shows them."""
        return sum(self.start_s) / 2, sum(self.end_s) / 2

    @property
    def duration_s(self) -> Range:
        return self.end_s[0] - self.start_s[0], self.end_s[1] - self.start_s[1]


@dataclass(frozen=True)
class Lane:
    """One device over the whole step, without a gap."""

    device: DevicePlan
    segments: tuple[Segment, ...]

    def seconds(self, *kinds: Kind) -> Range:
        """Of all segments of these kinds together."""
        found = [segment.duration_s for segment in self.segments if segment.kind in kinds]
        return sum(fast for fast, _ in found), sum(slow for _, slow in found)


@dataclass(frozen=True)
class StepTimeline:
    """One optimizer step, a lane for each device that has a part in it."""

    lanes: tuple[Lane, ...]
    num_turns: int
    """Passes that follow one another in the step."""
    step_s: Range
    """As `estimate` says it."""

    def share(self, lane: Lane, *kinds: Kind) -> float:
        """Of the step, in the middle of the range; 0 to 1."""
        whole = sum(self.step_s)
        return sum(lane.seconds(*kinds)) / whole if whole else 0.0


def step_timeline(plan: Plan, config: TrainingConfig, conditions: Conditions | None = None) -> StepTimeline | None:
    """Of one step of `plan`; None where a card is used whose rates nobody told us, and where nothing is used."""
    conditions = conditions or Conditions()
    values = values_of(plan, config, conditions)
    if not plan.used:
        return None
    return (_shared if plan.is_shared else _split)(plan, config, values, conditions)


@dataclass(frozen=True)
class _Piece:
    """What one device does in a split while all others wait."""

    position: int
    kind: Kind
    seconds: Seconds
    blocks: tuple[int, ...] = ()


class _Writer:
    """Segments of one lane, one behind the other; what lies between two of them is waiting."""

    def __init__(self) -> None:
        self.segments: list[Segment] = []
        self.now = np.zeros(2)

    def add(self, kind: Kind, turn: int, start: Seconds, seconds: Seconds, blocks: tuple[int, ...] = ()) -> None:
        self.idle_until(start, turn)
        end = start + seconds
        if (seconds > 0).any():
            self.segments.append(Segment(kind, turn, _range(start), _range(end), blocks))
        self.now = end

    def idle_until(self, moment: Seconds, turn: int) -> None:
        if (moment > self.now).any():
            moment = np.maximum(moment, self.now)  # of sums of floats
            self.segments.append(Segment("idle", turn, _range(self.now), _range(moment)))
            self.now = moment


def _split(plan: Plan, config: TrainingConfig, values: Vector, conditions: Conditions) -> StepTimeline | None:
    """Of one process, whose devices work one after the other."""
    pieces = _pieces(plan, values, conditions)
    if pieces is None:
        return None
    writers, now = {plan.devices.index(device): _Writer() for device in plan.used}, np.zeros(2)
    turns = passes_of(config)
    for turn in range(turns):
        for piece in pieces:
            writers[piece.position].add(piece.kind, turn, now, piece.seconds, piece.blocks)
            now = now + piece.seconds
    for writer in writers.values():
        writer.idle_until(now, turns - 1)
    lanes = [Lane(plan.devices[position], tuple(writer.segments)) for position, writer in writers.items()]
    return StepTimeline(tuple(lanes), turns, _range(now))


def _pieces(plan: Plan, values: Vector, conditions: Conditions) -> list[_Piece] | None:
    """Of one pass, in their order."""
    seconds = {}
    for position in set(plan.assignment):
        found = directed_seconds(plan.profile, values, plan.devices[position].target, conditions.cpu)
        if found is None:
            return None
        seconds[position] = found
    transfers = Transfers.of(plan.profile, values, conditions.link_speed)
    stretches = list(enumerate(stretches_of(plan.profile)))
    runs = [(position, list(run)) for position, run in groupby(stretches, key=lambda one: plan.assignment[one[1].unit])]
    is_recomputed = plan.profile.settings.gradient_checkpointing
    pieces: list[_Piece] = []
    for is_forward in (True, False):
        before: int | None = None if is_forward else runs[-1][0]
        for position, run in runs if is_forward else reversed(runs):
            copied = sum((transfers.side(one.unit, position, runs[0][0]) for _, one in run), np.zeros(2))
            copied = copied * ((0.5 if is_recomputed else 1.0) if is_forward else (0.5 if is_recomputed else 0.0))
            if before is not None and before != position:
                copied = copied + transfers.hop(before, position) / 2
            pieces.append(_Piece(position, "transfer", copied))
            directed = seconds[position][0 if is_forward else 1]
            computed = directed[:, [index for index, _ in run]].sum(axis=1)
            pieces.append(_Piece(position, "forward" if is_forward else "backward", computed, _blocks(run)))
            before = position
    return pieces


def _blocks(run: Sequence[tuple[int, Stretch]]) -> tuple[int, ...]:
    return tuple(stretch.block for _, stretch in run if stretch.block is not None)


def _shared(plan: Plan, config: TrainingConfig, values: Vector, conditions: Conditions) -> StepTimeline | None:
    """Of several processes, each of which waits for the slowest."""
    parts = shared_parts(plan, values, conditions.link_speed, conditions.cpu)
    if parts is None:
        return None
    turns, passes = rounds_of(config, plan.workload.num_processes), passes_of(config)
    pace = parts.computing + parts.gathering
    lanes = []
    for rank, (device, own) in enumerate(zip(plan.used, parts.passes, strict=True)):
        writer, blocks = _Writer(), tuple(range(len(plan.profile.kind_of_block)))
        ways = directed_seconds(plan.profile, values, device.target, conditions.cpu)
        assert ways is not None, "its pass is known"
        forward = own * _forward_share(ways)
        for turn in range(turns):
            begin = turn * pace
            if turn * plan.workload.num_processes + rank < passes or device.target.is_cpu:
                for start, seconds, kind, shown in _own_pass(begin, forward, own - forward, parts.gathering, blocks):
                    writer.add(kind, turn, start, seconds, shown)
            writer.idle_until(begin + pace, turn)
        writer.add("sum", turns - 1, turns * pace, parts.summed)
        lanes.append(Lane(device, tuple(writer.segments)))
    return StepTimeline(tuple(lanes), turns, _range(turns * pace + parts.summed))


def _own_pass(
    begin: Seconds, forward: Seconds, backward: Seconds, gathering: Seconds, blocks: tuple[int, ...]
) -> Iterator[tuple[Seconds, Seconds, Kind, tuple[int, ...]]]:
    """Half of what is gathered while nothing computes comes before each direction."""
    half = gathering / 2
    yield begin, half, "gather", ()
    yield begin + half, forward, "forward", blocks
    yield begin + half + forward, half, "gather", ()
    yield begin + 2 * half + forward, backward, "backward", blocks


def _forward_share(ways: tuple[Seconds, Seconds]) -> Seconds:
    """(2,)"""
    forward, backward = (way.sum(axis=1) for way in ways)
    whole = forward + backward
    return np.divide(forward, whole, out=np.full(2, 0.5), where=whole > 0)


def _range(seconds: Seconds) -> Range:
    return float(seconds[0]), float(seconds[1])
