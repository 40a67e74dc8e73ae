"""The points of a training step at which a device may hold most."""

from __future__ import annotations

from typing import Literal, NamedTuple

Phase = Literal[
    "embed",
    "arrives",
    "forward",
    "head",
    "returns",
    "root_back",
    "loss_back",
    "arrives_back",
    "back",
    "embed_back",
    "sum",
    "update",
]


class Moment(NamedTuple):
    """A point of the step that may be the one with the most bytes."""

    moving: float
    """Bytes of all that comes and goes: gradients, activations, logits."""
    gradients: float
    """Of these, gradients."""
    logits: float
    """Of these, logits and what the loss makes of them."""
    phase: Phase
    block: int = 0
    """Its place in the model, where it is a block's; counted from 0."""
    before: float = 0.0
    """`moving` when the part began."""
