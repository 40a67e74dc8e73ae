"""A LoRA layer as one autograd function in plain torch.

    y = x Wᵀ + b + (x Aᵀ)(s·B)ᵀ          Hu et al. 2021, “LoRA”, equation 3, with s = α / r
    ∂x = ∂y W + ∂u A,  ∂u = ∂y (s·B)      ∂A = ∂uᵀ x,  ∂B = s · ∂yᵀ u,  u = x Aᵀ

PEFT's own forward pass casts x to the adapter's fp32 and back, keeps casts of A and B for the backward pass, and rounds
each of four results to 16 bits. Here A and s·B are cast once, x and u are all that is kept, and the products are added where
they come to be. Gradients of A and B are summed in their own number format over the micro-batches of a step.

It is decided anew at each call: whatever this function does not compute (see `why_not_fused`) goes PEFT's own way.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any, cast

import torch
from peft.tuners.lora.layer import Linear, LoraLayer
from torch import nn
from torch.autograd.function import once_differentiable
from transformers.pytorch_utils import Conv1D

from lora_backend.i18n import N_, Message
from lora_backend.kernels.module_hooks import is_any_hooked

FLOATS = (torch.float32, torch.bfloat16, torch.float16)
OTHER_BASE = N_("they do not stand on a plain linear layer")
OWN_FORWARD = N_("they have a custom forward pass")
SWITCHED_OFF = N_("their adapter is merged or switched off")
NOT_ONE = N_("not exactly one adapter is active in them")
VARIANT = N_("their adapter is DoRA or another variant of LoRA")
WITH_BIAS = N_("their adapter has a bias, or is not a pair of linear layers")
WITH_DROPOUT = N_("`lora_dropout` is not 0")
TRAINED_BASE = N_("the weight or bias of their base layer trains")
HOOKED = N_("something watches or changes the data that goes through them")
OTHER_FORMAT = N_("their number format or device is not that of their input")


@dataclass(frozen=True)
class FusedCount:
    """How the LoRA layers of a model compute when it trains."""

    layers: int
    """As one function."""
    others: tuple[tuple[str, int], ...]
    """By PEFT's own code: why (a template without values), and how many; the most first."""

    def __str__(self) -> str:
        """For the log."""
        others = [f"{count} by PEFT's own code: {Message(why).text('en')}" for why, count in self.others]
        return "; ".join([f"{self.layers} LoRA layers compute as one function each", *others])


def use_fused_lora(model: nn.Module) -> FusedCount:
    """Let every LoRA layer of `model` that can compute as one function; parameters and names stay as they are."""
    layers, others = 0, Counter[str]()
    for module in model.modules():
        if not isinstance(module, LoraLayer):
            continue
        if type(module) is Linear:
            module.__class__ = FusedLoraLinear
        reason = why_not_fused(module, trains=True)
        if reason is None:
            layers += 1
        else:
            others[reason] += 1
    return FusedCount(layers, tuple(others.most_common()))


class FusedLoraLinear(Linear):  # type: ignore[misc]  # PEFT's classes are untyped
    """PEFT's layer, with another forward pass and nothing else of its own."""

    def forward(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        if args or kwargs or why_not_fused(self) is not None:
            return cast("torch.Tensor", super().forward(x, *args, **kwargs))
        adapter, kind, base = _active(self)[0], x.device.type, self.base_layer
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype
        if not _go_together(x, dtype, self, adapter):
            return cast("torch.Tensor", super().forward(x))
        weight = base.weight.t() if isinstance(base, Conv1D) else base.weight
        a, b = self.lora_A[adapter].weight, self.lora_B[adapter].weight
        return fused_lora(x.to(dtype), weight, base.bias, a, b, self.scaling[adapter])

    def _get_name(self) -> str:
        return "Linear"  # as PEFT's own shows itself


def fused_lora(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, a: torch.Tensor, b: torch.Tensor, scaling: float
) -> torch.Tensor:
    """x Wᵀ + bias + scaling · (x Aᵀ) Bᵀ, in the number format of `x`; no gradient for `weight` and `bias`.

    `x`: … × in. `weight`: out × in. `a`: r × in, `b`: out × r, in any float format.
    """
    if not torch.is_grad_enabled():
        return _forward(x, weight, bias, a, b, scaling)[0]
    return cast("torch.Tensor", _FusedLora.apply(x, weight, bias, a, b, scaling))


def why_not_fused(layer: LoraLayer, *, trains: bool = False) -> str | None:
    """Why `layer` does not compute as one function now; None where it does.

    `trains`: say so for a pass in training mode, whatever mode the layer is in.
    """
    if type(layer) is not FusedLoraLinear or type(layer.base_layer) not in (nn.Linear, Conv1D):
        return OTHER_BASE
    if trains and "forward" in vars(layer):
        return OWN_FORWARD
    if layer.disable_adapters or layer.merged:
        return SWITCHED_OFF
    active = _active(layer)
    if len(active) != 1:
        return NOT_ONE
    adapter = active[0]
    if adapter in layer.lora_variant or not isinstance(layer.scaling[adapter], int | float):
        return VARIANT
    lora_a, lora_b, dropout = layer.lora_A[adapter], layer.lora_B[adapter], layer.lora_dropout[adapter]
    if any(type(part) is not nn.Linear or part.bias is not None for part in (lora_a, lora_b)):
        return WITH_BIAS
    if not (type(dropout) is nn.Identity or (type(dropout) is nn.Dropout and _drops_nothing(dropout, trains))):
        return WITH_DROPOUT
    base = layer.base_layer
    if base.weight.requires_grad or (base.bias is not None and base.bias.requires_grad):
        return TRAINED_BASE
    if is_any_hooked(base, lora_a, lora_b, dropout):
        return HOOKED
    return None if layer.cast_input_dtype_enabled else OTHER_FORMAT


def _active(layer: LoraLayer) -> list[str]:
    return [name for name in layer.active_adapters if name in layer.lora_A]


def _drops_nothing(dropout: nn.Dropout, trains: bool) -> bool:
    return dropout.p == 0 or not (trains or dropout.training)


def _go_together(x: torch.Tensor, dtype: torch.dtype, layer: LoraLayer, adapter: str) -> bool:
    """Whether PEFT, too, would multiply these in `dtype` on one device: under autocast it casts whatever comes."""
    base, *ab = layer.base_layer, layer.lora_A[adapter].weight, layer.lora_B[adapter].weight
    frozen = [part for part in (base.weight, base.bias) if part is not None]
    taken = FLOATS if torch.is_autocast_enabled(x.device.type) else (dtype,)
    return (
        dtype in FLOATS
        and x.dtype in FLOATS
        and all(part.device == x.device for part in (*frozen, *ab))
        and all(part.dtype in taken for part in frozen)
        and all(part.dtype in (torch.float32, dtype) for part in ab)
    )


def _forward(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, a: torch.Tensor, b: torch.Tensor, scaling: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """The result, … × out, and u = x Aᵀ, tokens × r."""
    rows = x.reshape(-1, x.shape[-1])
    result = nn.functional.linear(rows, weight.to(x.dtype), None if bias is None else bias.to(x.dtype))
    u = rows @ a.to(x.dtype).t()
    result.addmm_(u, (b * scaling).to(x.dtype).t())
    return result.view(*x.shape[:-1], result.shape[-1]), u


class _FusedLora(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        a: torch.Tensor,
        b: torch.Tensor,
        scaling: float,
    ) -> torch.Tensor:
        result, u = _forward(x, weight, bias, a, b, scaling)
        _, _, _, needs_a, needs_b, _ = ctx.needs_input_grad
        ctx.save_for_backward(x if needs_a else None, weight, a, b, u if needs_b else None)
        ctx.scaling, ctx.shape = scaling, x.shape
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, weight, a, b, u = ctx.saved_tensors
        needs_x, _, _, needs_a, needs_b, _ = ctx.needs_input_grad
        grad = grad.reshape(-1, grad.shape[-1])
        grad_x = grad_a = grad_b = None
        if needs_x or needs_a:
            grad_u = grad @ (b * ctx.scaling).to(grad.dtype)
        if needs_b:
            # So the narrow matrix comes first, which takes half the time of grad.t() @ u on a CPU.
            grad_b = _product(u.t(), grad, b.dtype).mul_(ctx.scaling).t()
        if needs_a:
            grad_a = _product(grad_u.t(), x.reshape(-1, x.shape[-1]), a.dtype)
        if needs_x:
            grad_x = grad @ weight.to(grad.dtype)
            grad_x.addmm_(grad_u, a.to(grad.dtype))
            grad_x = grad_x.view(ctx.shape)
        return grad_x, None, None, grad_a, grad_b, None


def _product(left: torch.Tensor, right: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """left @ right in `dtype`, without rounding to 16 bits on the way where the device's products can do so."""
    if left.dtype == dtype:
        return left @ right
    if left.is_cuda and dtype == torch.float32:
        return torch.mm(left, right, out_dtype=dtype)
    return (left @ right).to(dtype)
