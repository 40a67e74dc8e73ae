"""What an optimizer holds for each trained parameter, by its name in transformers."""

from __future__ import annotations

from collections.abc import Iterable

from lora_backend.planning.profile import TrainedTensors

SMALL_TENSOR = 4096
"""bitsandbytes keeps 32-bit states for tensors with fewer parameters than this."""
BLOCK = 256
"""Parameters that share a scale of 8-bit states."""

STATES = {
    "adamw_torch": 2.0, "adamw_torch_fused": 2.0, "adamw_hf": 2.0, "adamw_apex_fused": 2.0, "adamw_anyprecision": 2.0,
    "sgd": 0.0, "adagrad": 1.0, "rmsprop": 1.0, "adafactor": 0.0, "lion_32bit": 1.0, "paged_lion_32bit": 1.0,
    "paged_adamw_32bit": 2.0,
}  # fmt: skip
"""States as large as the parameter and in its number format (torch/optim and bitsandbytes/optim). Adafactor keeps a row
and a column for each matrix, which is next to nothing."""
EIGHT_BIT = {"adamw_8bit": 2, "adamw_bnb_8bit": 2, "paged_adamw_8bit": 2, "lion_8bit": 1, "paged_lion_8bit": 1, "rmsprop_bnb_8bit": 1}  # fmt: skip
"""States of one byte each, and a scale of four for each block (bitsandbytes/optim): 2.031 bytes for AdamW. Small tensors keep
them in 32 bits, and so do tables of embeddings: transformers registers these so (`create_optimizer` in `trainer.py`)."""
ONE_BY_ONE = ("adamw_torch_fused", "adamw_apex_fused")
"""Update in place, in one kernel."""


def is_known(name: str) -> bool:
    """Whether its figures are its own; AdamW's stand in for those of another."""
    return name in STATES or name in EIGHT_BIT


def state_bytes(name: str, parameters: int, itemsize: int, *, is_embedding: bool = False) -> int:
    """Of one trained tensor with so many parameters of `itemsize` bytes."""
    if name in EIGHT_BIT:
        if is_embedding or parameters < SMALL_TENSOR:
            return EIGHT_BIT[name] * 4 * parameters
        return EIGHT_BIT[name] * (parameters + 4 * -(-parameters // BLOCK))
    return round(STATES.get(name, 2.0) * parameters * itemsize)


def states_bytes(name: str, trained: Iterable[TrainedTensors], rank: int, itemsize: int) -> int:
    """Of all these tensors at `r` = rank."""
    return sum(
        tensors.num_tensors * state_bytes(name, tensors.size(rank), itemsize, is_embedding=tensors.is_embedding)
        for tensors in trained
    )


def transient_bytes(name: str, parameters: int, itemsize: int, largest: int, *, on_gpu: bool) -> int:
    """What a step over all trained tensors needs for a moment; `largest`: parameters of the largest of them.

    On a GPU torch's loops over all tensors at once need about one more copy of them; elsewhere one tensor's.
    """
    if name in EIGHT_BIT or name in ONE_BY_ONE:
        return 0
    return (parameters if on_gpu else largest) * itemsize
