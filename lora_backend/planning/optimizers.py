"""What an optimizer holds for each trained parameter, by its name in transformers."""

from __future__ import annotations

from dataclasses import dataclass

SMALL_TENSOR = 4096
"""bitsandbytes keeps 32-bit states for tensors with fewer parameters than this."""


@dataclass(frozen=True)
class OptimizerBytes:
    """Of all trained parameters together; `is_known` is False where AdamW's figures stand in for another optimizer's."""

    state_bytes: int
    transient_bytes: int
    """What a step needs for a moment."""
    is_known: bool = True


STATES = {
    "adamw_torch": 2.0, "adamw_torch_fused": 2.0, "adamw_hf": 2.0, "adamw_apex_fused": 2.0, "adamw_anyprecision": 2.0,
    "sgd": 0.0, "adagrad": 1.0, "rmsprop": 1.0, "adafactor": 0.0, "lion_32bit": 1.0, "paged_lion_32bit": 1.0,
    "paged_adamw_32bit": 2.0,
}  # fmt: skip
"""States as large as the parameter and in its number format (torch/optim and bitsandbytes/optim). Adafactor keeps a row
and a column for each matrix, which is next to nothing."""
EIGHT_BIT = {"adamw_8bit": 2, "adamw_bnb_8bit": 2, "paged_adamw_8bit": 2, "lion_8bit": 1, "paged_lion_8bit": 1, "rmsprop_bnb_8bit": 1}  # fmt: skip
"""States of one byte each, and four more for each block of 256 (bitsandbytes/optim): 2.031 bytes for AdamW."""
ONE_BY_ONE = ("adamw_torch_fused", "adamw_apex_fused")
"""Update in place, in one kernel."""


def optimizer_bytes(name: str, parameters: int, itemsize: int, largest: int, *, on_gpu: bool) -> OptimizerBytes:
    """`parameters`: trained ones; `itemsize`: bytes of each; `largest`: parameters of the largest tensor.

    On a GPU torch's loops over all tensors at once need about one more copy of them for a moment; elsewhere one tensor's.
    """
    if name in EIGHT_BIT:
        return OptimizerBytes(round(parameters * EIGHT_BIT[name] * (1 + 4 / 256)), 0)
    states = STATES.get(name)
    moved = parameters if on_gpu else largest
    transient_bytes = 0 if name in ONE_BY_ONE else moved * itemsize
    return OptimizerBytes(round((2.0 if states is None else states) * parameters * itemsize), transient_bytes, states is not None)  # fmt: skip
