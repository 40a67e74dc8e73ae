"""What an adapter makes of each weight of its base model: the arithmetic of a merge, in fp32."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

Form = Literal["linear", "transposed", "embedding", "experts", "transposed_experts"]
"""How a weight lies: (out, in); (in, out) of a Conv1D; (words, width) of an embedding, whose A has a column for each word;
(experts, out, in); (experts, in, out)."""

PIECE = 2**20
"""Numbers that are compared at a time."""


@dataclass(frozen=True)
class LowRank:
    """scale·B·A is added to the weight; of DoRA the sum is then given its trained magnitude."""

    layer: str
    """Canonical name of the LoRA layer."""
    a: torch.Tensor
    b: torch.Tensor
    scale: float
    form: Form
    num_experts: int = 1
    magnitude: torch.Tensor | None = None


@dataclass(frozen=True)
class Added:
    """A bias of B, scaled, is added to the bias."""

    layer: str
    value: torch.Tensor


@dataclass(frozen=True)
class Replaced:
    """The adapter has its own."""

    value: torch.Tensor


Change = LowRank | Added | Replaced


def merged(weight: torch.Tensor, change: Change) -> torch.Tensor:
    """The weight with the change, in fp32, of any dtype that it is stored in.

    W + scale·B·A as PEFT orders it (`get_delta_weight` in peft/tuners/lora/layer.py), so that in fp32 both agree to the
    bit; rounding to a shorter dtype is left to whoever stores it, and happens once. DoRA: m ∘ (W + ΔW) / ‖W + ΔW‖, the
    norm over the inputs of each output (Liu et al., 2024, “DoRA”, equation 5; `DoraLinearVariant.merge_unsafe`).
    """
    if isinstance(change, Replaced):
        return change.value.float()
    if isinstance(change, Added):
        return weight.float() + change.value
    whole = delta(change).add_(weight)  # in fp32 whatever the weight's dtype, and without a copy of it in fp32
    if change.magnitude is None:
        return whole
    if change.form == "linear":
        return (change.magnitude.float() / torch.linalg.norm(whole, dim=1)).view(-1, 1) * whole
    # Summed as PEFT sums it, over a tensor that lies as it does there; another order would round otherwise.
    norm = torch.linalg.norm(weight.float().T + delta(change).T, dim=1)
    return (change.magnitude.float() / norm).view(1, -1) * whole


def delta(change: LowRank) -> torch.Tensor:
    """scale·B·A, as the weight lies, in fp32."""
    a, b = change.a.float(), change.b.float()
    if change.form in ("transposed", "embedding"):
        return (b @ a).mul_(change.scale).T
    if change.form == "linear":
        return (b @ a).mul_(change.scale)
    a = a.reshape(change.num_experts, -1, a.shape[-1])
    b = b.reshape(b.shape[0], -1, change.num_experts)
    order = "o r e, e r i -> e i o" if change.form == "transposed_experts" else "o r e, e r i -> e o i"
    return torch.einsum(order, b, a).mul_(change.scale)


def stored_as(value: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Rounded once to the dtype of a file. Raises `OverflowError` where a finite number is none in it."""
    cast = value.to(dtype)
    if dtype == torch.float16 and not bool((torch.isfinite(cast) | ~torch.isfinite(value)).all()):
        raise OverflowError
    return cast


def ulps_apart(one: torch.Tensor, other: torch.Tensor, beside: torch.Tensor | None = None) -> float:
    """The largest difference of two tensors of one dtype, in units in the last place of the larger of both numbers there,
    or of that of `beside`, where it is larger still: what both were before something of opposite sign was added.

    The unit of x in a format of p digits is 2^(e − p + 1), where 2^e ≤ |x| < 2^(e+1), and that of the least normal
    number below it (Goldberg, 1991). Infinite where one is no number and the other is one.
    """
    if torch.equal(one, other):
        return 0.0
    parts = (one, other, one if beside is None else beside)
    pieces = (part.detach().reshape(-1).split(PIECE) for part in parts)
    return max(_ulps(*piece) for piece in zip(*pieces, strict=True))


def _ulps(one: torch.Tensor, other: torch.Tensor, beside: torch.Tensor) -> float:
    kind, exact = torch.finfo(one.dtype), (one.double(), other.double())
    largest = torch.maximum(torch.maximum(exact[0].abs(), exact[1].abs()), beside.double().abs()).clamp_min(kind.tiny)
    unit = torch.exp2(torch.floor(torch.log2(largest))) * kind.eps
    apart = (exact[0] - exact[1]).abs() / unit
    both = torch.isnan(exact[0]) & torch.isnan(exact[1])
    return float(apart.masked_fill(both, 0.0).nan_to_num(nan=float("inf"), posinf=float("inf")).max())
