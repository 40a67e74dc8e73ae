"""What every run of consecutive units takes on one device, all of them at once: the sums of `memory.py` as tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Moments:
    """One unit at one size; bytes."""

    weights: float
    adapter: float
    gradients: float
    optimizer: float
    forward_peak: float
    forward_delta: float
    backward_peak: float
    backward_delta: float
    side: float
    released: float


@dataclass(frozen=True)
class Model:
    """A model's units in order, and what happens between them; bytes."""

    units: Sequence[Moments]
    """Embedding, blocks, and the head where it is a tensor of its own."""
    head: Moments
    is_tied: bool
    hidden: float
    """The hidden states that come in from another device."""
    returns_peak: float
    returns_delta: float
    accumulates: bool
    stepping_per_adapter: float
    """What the optimizer's step needs for a moment, for each byte that trains."""


def interval_bytes(model: Model, reserve: float, *, embed_first: bool) -> Floats:
    """(units + 1, units + 1): what units i to j − 1 take. With `embed_first` only row 0 holds, without it all the others.

    `reserve`: a share on top of what comes and goes.
    """
    count, head = len(model.units), model.head
    column = {name: np.array([getattr(unit, name) for unit in model.units]) for name in vars(head)}
    if not embed_first:
        column["forward_delta"] = column["forward_delta"] + column["side"]
        column["forward_peak"] = column["forward_peak"] + column["side"]
    kept, gradients, adapter = (_sums(column[name]) for name in ("forward_delta", "gradients", "adapter"))
    carried = _sums(column["forward_delta"] - column["released"])
    left = carried + _sums(column["backward_delta"])
    static = _sums(column["weights"] + column["adapter"] + column["optimizer"])
    start = 0.0 if embed_first else model.hidden

    blocks_kept, blocks_carried = start + _between(kept), start + _between(carried)
    moving = start + _running(kept[:-1] + column["forward_peak"]) - kept[:, None]
    # behind unit u: what is left of the units from u + 1 on
    behind = _running(carried[1:] + column["backward_peak"] - left[1:]) - carried[:, None] + start + left[None, :]
    with_head = np.arange(count + 1) == count
    if model.is_tied and embed_first:
        moving = np.maximum(moving, blocks_kept + head.forward_peak)
        after = blocks_carried + head.forward_delta
        moving = np.maximum(moving, after + model.returns_peak)
        after = after + model.returns_delta
        moving = np.maximum(moving, after + head.backward_peak)
        behind = behind + head.forward_delta + model.returns_delta + head.backward_delta
        is_held = np.arange(count + 1) > 0
        static = static + is_held * (head.weights + head.adapter + head.optimizer)
        gradients, adapter = gradients + is_held * head.gradients, adapter + is_held * head.adapter
    elif not model.is_tied:
        # The last unit is the head: what its outputs leave goes before its backward pass.
        behind = behind + np.where(with_head, model.returns_delta, 0.0)
        moving = np.maximum(moving, blocks_carried + np.where(with_head, model.returns_peak, 0.0))
    moving = np.maximum(moving, behind)
    if model.accumulates:
        moving = moving + _between(gradients)
    stepping = _between(gradients) + _between(adapter) * model.stepping_per_adapter
    return _between(static) + (1 + reserve) * np.maximum(moving, stepping)


def _sums(values: Floats) -> Floats:
    """(units + 1,): the sum of all before each boundary."""
    return np.concatenate([[0.0], np.cumsum(values)])


def _between(sums: Floats) -> Floats:
    """[i, j]: from sums up to each boundary, the sum from i to j."""
    return np.asarray(sums[None, :] - sums[:, None])


def _running(values: Floats) -> Floats:
    """[i, j]: the largest of values[i : j]."""
    count = len(values)
    table = np.where(np.arange(count)[None, :] >= np.arange(count + 1)[:, None], values[None, :], -np.inf)
    table = np.maximum.accumulate(table, axis=1)
    return np.concatenate([np.full((count + 1, 1), -np.inf), table], axis=1)
