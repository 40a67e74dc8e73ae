"""What an optimizer holds for each trained parameter, by its name in transformers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from lora_backend.planning.cost.profile import TrainedTensors

SMALL_TENSOR = 4096
"""bitsandbytes and torchao keep 32-bit states for tensors with fewer parameters than this."""
BLOCK = 256
"""Parameters that share a scale of 8-bit states; so many too where transformers asks torchao for 4-bit ones."""

STATES = {
    "adamw_torch": 2.0, "adamw_torch_fused": 2.0, "adamw_anyprecision": 2.0, "stable_adamw": 2.0, "sgd": 0.0, "adagrad": 1.0,
    "rmsprop": 1.0, "rmsprop_bnb": 1.0, "rmsprop_bnb_32bit": 1.0, "lion_32bit": 1.0, "paged_lion_32bit": 1.0, "paged_adamw_32bit": 2.0,
    "ademamix": 3.0, "paged_ademamix_32bit": 3.0,
}  # fmt: skip
"""States as large as the parameter and in its number format (torch/optim, bitsandbytes/optim, optimi, torchdistx)."""
EIGHT_BIT = {
    "adamw_8bit": 2, "adamw_bnb_8bit": 2, "paged_adamw_8bit": 2, "lion_8bit": 1, "paged_lion_8bit": 1, "rmsprop_bnb_8bit": 1,
    "ademamix_8bit": 3, "paged_ademamix_8bit": 3,
}  # fmt: skip
"""States of one byte each, and a scale of four for each block (bitsandbytes/optim): 2.031 bytes for AdamW. Small tensors keep
them in 32 bits, and so do tables of embeddings: transformers registers these so (`create_optimizer` in `trainer.py`)."""
TORCHAO_BITS = {"adamw_torch_8bit": 8, "adamw_torch_4bit": 4}
"""Two states in so many bits, a scale of four bytes for each block, and a table of 2 ** bits numbers for each state of each
tensor (torchao/optim). Tensors that are small, or no multiple of a block, keep them in 32 bits."""
ADAFACTOR = "adafactor"
"""Keeps a number for each row and each column of a matrix, and one for each parameter of what is none."""
IN_A_STEP = {
    "sgd": (1, 0, 2), "adagrad": (2, 0, 3), "rmsprop": (2, 0, 3), ADAFACTOR: (0, 3, 3), "adamw_torch_fused": (0, 0, 0),
    **dict.fromkeys(TORCHAO_BITS, (0, 0, 0)),
}  # fmt: skip
"""Copies that a step makes for a moment: on a GPU of all trained tensors and of the largest, elsewhere of the largest (measured
with weight decay). torch's loops over all tensors at once copy all of them; one by one, the copy of the tensor before is still there."""
LIKE_ADAMW = (1, 0, 3)


def is_known(name: str) -> bool:
    """Whether its figures are its own; AdamW's stand in for those of another."""
    return name in STATES or name in EIGHT_BIT or name in TORCHAO_BITS or name == ADAFACTOR


def sides_of(shape: Sequence[int]) -> int:
    """Numbers that Adafactor keeps of a tensor: its rows and columns; 0 for what is no matrix."""
    count = math.prod(shape)
    return count // shape[-1] + count // shape[-2] if len(shape) > 1 and count else 0


def state_bytes(name: str, parameters: int, itemsize: int, *, is_embedding: bool = False, sides: int = 0) -> int:
    """Of one trained tensor with so many parameters of `itemsize` bytes; `sides`: as `sides_of` counts them."""
    if name == ADAFACTOR:
        return (sides or parameters) * itemsize
    if name in EIGHT_BIT:
        if is_embedding or parameters < SMALL_TENSOR:
            return EIGHT_BIT[name] * 4 * parameters
        return EIGHT_BIT[name] * (parameters + 4 * -(-parameters // BLOCK))
    if name in TORCHAO_BITS:
        if parameters < SMALL_TENSOR or parameters % BLOCK:
            return 2 * itemsize * parameters
        bits = TORCHAO_BITS[name]
        return 2 * (parameters * bits // 8 + 4 * (parameters // BLOCK) + 4 * 2**bits)
    return round(STATES.get(name, 2.0) * parameters * itemsize)


def states_bytes(name: str, trained: Iterable[TrainedTensors], rank: int, itemsize: int) -> int:
    """Of all these tensors at `r` = rank."""
    return sum(
        tensors.num_tensors
        * state_bytes(
            name, tensors.size(rank), itemsize, is_embedding=tensors.is_embedding, sides=tensors.sides_at(rank)
        )
        for tensors in trained
    )


def transient_bytes(name: str, parameters: int, itemsize: int, largest: int, *, on_gpu: bool) -> int:
    """What a step over all trained tensors needs for a moment; `largest`: parameters of the largest of them."""
    if name in EIGHT_BIT or (name in STATES and _is_of_bitsandbytes(name)):
        return 0
    of_all, of_largest, elsewhere = IN_A_STEP.get(name, LIKE_ADAMW)
    return (of_all * parameters + of_largest * largest if on_gpu else elsewhere * largest) * itemsize


def _is_of_bitsandbytes(name: str) -> bool:
    """Those of 32 bits: every state is updated in its place, by one kernel."""
    return name.startswith(("paged_", "lion_", "ademamix", "rmsprop_bnb"))
