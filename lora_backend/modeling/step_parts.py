"""Recordings of one step at several sizes, cut into its parts: how each grows with rows, tokens and rank."""

from __future__ import annotations

from itertools import groupby, pairwise
from typing import NamedTuple

import numpy as np

from lora_backend.errors import UntraceableError
from lora_backend.i18n import N_
from lora_backend.modeling.step_loops import Events, fold
from lora_backend.modeling.tracker import Recording
from lora_backend.planning.cost.profile import NOTHING, Part
from lora_backend.planning.cost.scaling import EXPONENTS, Size, Vector, highest, identify, padded_to


class Stretch(NamedTuple):
    """A part of a recording."""

    changes: Events
    """The bytes that each event adds or takes away."""
    flops: Events
    """FLOPs of each operation."""


def cut(recordings: list[Recording], sizes: list[Size], multiple: int = 1) -> tuple[dict[str, Part], bool]:
    """The parts of a step by the label they begin with, and whether all of them are exact.

    Where a part's events are the same at every size, but for rounds of loops, the growth of each tensor is identified,
    and the peak is the highest of the running sums. Where they differ (tiles of a loss, say), the part's own figures
    are identified. `multiple` is the model's chunk, in tokens.
    """
    for recording in recordings:
        names = [label for label, _ in recording.marks]
        if len(set(names)) < len(names):
            raise UntraceableError(
                N_("The model's training step cannot be traced: its blocks run several times in one pass.")
            )
    stretches = [_stretches(recording) for recording in recordings]
    labels = list(stretches[0])
    if any(list(other) != labels for other in stretches):
        raise UntraceableError(
            N_("The model's training step cannot be traced: its blocks run in another order at another size.")
        )
    parts, all_exact = {}, True
    for label in labels:
        parts[label], is_exact = _part([other[label] for other in stretches], sizes, multiple)
        all_exact &= is_exact
    return parts, all_exact


def _part(seen: list[Stretch], sizes: list[Size], multiple: int) -> tuple[Part, bool]:
    zero = np.zeros((1, len(EXPONENTS)))
    flops = _sum_of_flops([stretch.flops for stretch in seen], sizes, multiple)
    changes = fold([stretch.changes for stretch in seen], _counts(sizes, multiple))
    if changes is not None:
        growth, is_known = identify(sizes, np.array(changes).T, multiple)
        if is_known.all():
            running = np.concatenate([zero, np.cumsum(growth, axis=0)])
            return Part(tuple(highest(running)), running[-1], flops), True
    running_sums = [np.concatenate([[0.0], np.cumsum(stretch.changes.values)]) for stretch in seen]
    figures, is_known = identify(
        sizes, np.array([[run.max() for run in running_sums], [run[-1] for run in running_sums]]), multiple
    )
    return Part((figures[0],), figures[1], flops), bool(is_known.all())


def _counts(sizes: list[Size], multiple: int) -> list[list[int]]:
    """What the rounds of a loop may grow with, at each size: tokens, chunks and tokens behind the last whole chunk of a row."""
    chunks = [padded_to(size.tokens, multiple) // multiple for size in sizes]
    return [[size.tokens for size in sizes], chunks, [size.tokens % multiple for size in sizes]]


def _sum_of_flops(seen: list[Events], sizes: list[Size], multiple: int) -> Vector:
    folded = fold(seen, _counts(sizes, multiple))
    if folded is not None:
        return identify(sizes, np.array(folded).T, multiple)[0].sum(axis=0)
    return identify(sizes, np.array([[events.values.sum() for events in seen]]), multiple)[0][0]


AFTER_BLOCKS = ("forward head", "return", "backward head")


def _marks(recording: Recording) -> list[tuple[str, int]]:
    return [("forward embed", 0), *recording.marks, ("", len(recording.storages))]


def _stretches(recording: Recording) -> dict[str, Stretch]:
    """Per part, what happened in it.

    What blocks in the middle made and let go only behind the last of them is left out of the parts there, for their
    number differs in the whole model; see `released_by`.
    """
    flop_events = np.array([event for event, _, _ in recording.flops], int)
    flop_kinds = np.array([_number(name) for _, _, name in recording.flops], np.int64)
    flop_counts = np.array([count for _, count, _ in recording.flops], float)
    made_in, middle = _made_in(recording), _middle_blocks(recording)
    found = {}
    for (label, start), (_, stop) in pairwise(_marks(recording)):
        numbers: list[int] = []
        # What is let go at one moment goes in no certain order.
        for is_new, run in groupby(recording.storages[start:stop], key=lambda number: number >= 0):
            together = list(run)
            numbers += together if is_new else sorted(together, reverse=True)
        if label in AFTER_BLOCKS:
            numbers = [number for number in numbers if number >= 0 or made_in[-number - 1] not in middle]
        changes = [recording.sizes_bytes[n] if n >= 0 else -recording.sizes_bytes[-n - 1] for n in numbers]
        kinds = [_number(recording.makers[n]) if n >= 0 else -_number(recording.makers[-n - 1]) for n in numbers]
        inside = (flop_events >= start) & (flop_events < stop)
        events = Events(np.array(kinds, np.int64), np.array(changes, float))
        found[label] = Stretch(events, Events(flop_kinds[inside], flop_counts[inside]))
    return found


_numbers: dict[str, int] = {}


def _number(operation: str) -> int:
    """The same for the same operation, from 1 on."""
    return _numbers.setdefault(operation, len(_numbers) + 1)


def released_by(recordings: list[Recording], sizes: list[Size], block: int, multiple: int = 1) -> Vector:
    """Bytes that a middle block's forward pass leaves until all blocks are done: autocast's casts of weights."""
    found = []
    if f"forward {block}" not in _middle_blocks(recordings[0]):
        return NOTHING.delta
    for recording in recordings:
        made_in = _made_in(recording)
        freed = {
            -number - 1
            for (label, start), (_, stop) in pairwise(_marks(recording))
            if label in AFTER_BLOCKS
            for number in recording.storages[start:stop]
            if number < 0
        }
        mine = [recording.sizes_bytes[number] for number in sorted(freed) if made_in[number] == f"forward {block}"]
        found.append(np.array(mine, float))
    if len({len(mine) for mine in found}) == 1:
        return identify(sizes, np.array(found).T, multiple)[0].sum(axis=0)
    return identify(sizes, np.array([[mine.sum() for mine in found]]), multiple)[0][0]


def _made_in(recording: Recording) -> list[str]:
    """Per storage, the part in which it appeared."""
    made_in = [""] * len(recording.sizes_bytes)
    for (label, start), (_, stop) in pairwise(_marks(recording)):
        for number in recording.storages[start:stop]:
            if number >= 0:
                made_in[number] = label
    return made_in


def _middle_blocks(recording: Recording) -> set[str]:
    """Labels of the blocks that stand for more than one: all but the first and the last."""
    blocks = [label for label, _ in recording.marks if label.startswith("forward ") and label.split()[1].isdigit()]
    return set(blocks[1:-1])
