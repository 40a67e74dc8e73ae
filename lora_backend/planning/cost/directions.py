"""A unit's seconds, shared out over its forward and its backward pass: what is drawn when one step is looked at in time.

The estimate knows a unit's two passes together (`step_time.unit_seconds`). Each gets the share that it has of the unit's
work, bytes and launches, so that both together are what the estimate says.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lora_backend.planning.cost.profile import Profile, Unit
from lora_backend.planning.cost.scaling import Vector
from lora_backend.planning.cost.step_time import (
    DEQUANTIZED_BYTES,
    EFFICIENCY,
    LAUNCH_S,
    NF4_BYTES,
    OPERATIONS,
    OPERATIONS_AT_ENDS,
    Cpu,
    Seconds,
    unit_seconds,
)
from lora_backend.planning.targets import Target

FORWARD_OPERATIONS = OPERATIONS[True] - OPERATIONS[False]
"""Of a block: gradient checkpointing starts them once more."""


@dataclass(frozen=True)
class Stretch:
    """A part of the model as a pass goes through it: a tied head is a stretch of its own, though it is one unit with the embedding."""

    unit: int
    """As a placement counts them."""
    block: int | None
    """None before and behind the blocks."""
    part: Unit


def stretches_of(profile: Profile) -> list[Stretch]:
    """In the order of a forward pass."""
    blocks = [Stretch(index + 1, index, profile.kinds[kind]) for index, kind in enumerate(profile.kind_of_block)]
    head = 0 if profile.is_tied else len(blocks) + 1
    return [Stretch(0, None, profile.embed), *blocks, Stretch(head, None, profile.head)]


def directed_seconds(
    profile: Profile, values: Vector, target: Target, cpu: Cpu
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Twice (2, stretches): of each stretch's forward and of its backward pass; None for a card whose rates nobody told us."""
    units = unit_seconds(profile, values, target, cpu)
    if units is None:
        return None
    stretches = stretches_of(profile)
    raw = np.stack([_raw_seconds(profile, stretch, values, target) for stretch in stretches], axis=-1)
    of_unit = np.array([stretch.unit for stretch in stretches])
    found = np.zeros_like(raw)
    for unit in set(of_unit.tolist()):
        mine = of_unit == unit
        whole = raw[:, :, mine].sum(axis=(0, 2))
        shares = np.where(whole[None, :, None] > 0, raw[:, :, mine], 1.0)
        shares = shares / shares.sum(axis=(0, 2))[None, :, None]
        found[:, :, mine] = shares * units[None, :, unit, None]
    return found[0], found[1]


def _raw_seconds(profile: Profile, stretch: Stretch, values: Vector, target: Target) -> Seconds:
    """(direction, 2): what the two passes are weighed by."""
    work = np.array([float(stretch.part.forward.flops @ values), float(stretch.part.backward.flops @ values)])
    if target.is_cpu or target.spec is None:
        return np.stack([work, work], axis=-1)
    settings = profile.settings
    moved_bytes = stretch.part.weights_bytes * (
        DEQUANTIZED_BYTES / NF4_BYTES if settings.quantization == "nf4" else 1.0
    )
    moving_s = (
        moved_bytes / target.spec.bandwidth_bytes_per_s * np.array([1, 2 if settings.gradient_checkpointing else 1])
    )
    rate = target.spec.training_flops / (2 if settings.precision == "fp32" else 1)
    slow, fast = (work / (rate * share) + moving_s for share in EFFICIENCY)
    return np.stack([fast, slow + _operations(profile, stretch) * LAUNCH_S[1]], axis=-1)


def _operations(profile: Profile, stretch: Stretch) -> NDArray[np.float64]:
    """(direction,)"""
    if stretch.block is None:
        return np.array([OPERATIONS_AT_ENDS / 2, OPERATIONS_AT_ENDS / 2])
    whole = OPERATIONS[profile.settings.gradient_checkpointing]
    return np.array([FORWARD_OPERATIONS, whole - FORWARD_OPERATIONS])
