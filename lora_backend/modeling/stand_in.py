"""Linear layers that take the memory of bitsandbytes' ones, for traces: its kernels do not run on tensors without bytes.

What they hold, make for a moment and keep for the backward pass follows `bitsandbytes/autograd/_functions.py`
(MatMul4Bit, and MatMul8bitLt as it runs on GPUs); tests hold the result against bitsandbytes itself on the CPU.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from lora_backend.modeling.devices import DTYPES

NF4_BLOCK, NF4_NESTED_BLOCK, NF4_TABLES_BYTES = 64, 256, 1092
"""Weights that share a scale, scales that share one of their own, and the tables of each matrix in bytes."""


def stand_in_for_quantized(model: PreTrainedModel, word: str, precision: str) -> None:
    """Put a stand-in for each linear layer that transformers would quantize: all but the output head."""
    head = model.get_output_embeddings()
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            is_adapter = name.startswith("lora_") or name == "default"
            if type(child) is nn.Linear and child is not head and not is_adapter:
                setattr(module, name, _StandIn(child, word, DTYPES[precision]))


class _StandIn(nn.Module):
    def __init__(self, linear: nn.Linear, word: str, compute_dtype: torch.dtype) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.word, self.compute_dtype = word, compute_dtype
        count = linear.in_features * linear.out_features
        device = linear.weight.device
        if word == "nf4":
            scales = -(-count // NF4_BLOCK)
            packed_bytes = (count + 1) // 2
            scale_bytes = scales + 4 * -(-scales // NF4_NESTED_BLOCK) + NF4_TABLES_BYTES
        else:
            packed_bytes, scale_bytes = count, 4 * linear.out_features
        self.register_buffer("packed", torch.empty(packed_bytes, dtype=torch.uint8, device=device))
        self.register_buffer("scales", torch.empty(scale_bytes, dtype=torch.uint8, device=device))
        self.bias, linear.bias = linear.bias, None
        self.weight = _Shape(linear.out_features, linear.in_features, linear.weight.dtype, device)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """What the layer it stands for computes, as far as shapes go."""
        given = inputs.dtype
        trains_bias = self.bias is not None and self.bias.requires_grad
        if self.word == "int8":
            result = _Int8.apply(inputs, self.out_features).to(given)
        else:
            result = _Nf4.apply(inputs.to(self.compute_dtype), self.out_features)
            if self.bias is not None and not trains_bias:
                result = result + self.bias
            result = result.to(given)
        if trains_bias:  # it is added behind the layer, see trained_dtype.py
            result = result + self.bias.to(given)
        return result if self.word == "int8" else result.clone()  # PEFT copies what a 4-bit layer returns


class _Shape:
    """What adapters ask of the weight they lie on."""

    def __init__(self, rows: int, columns: int, dtype: torch.dtype, device: torch.device) -> None:
        self.shape, self.dtype, self.device = torch.Size((rows, columns)), dtype, device


class _Nf4(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, inputs: torch.Tensor, out_features: int) -> torch.Tensor:
        ctx.out_features, ctx.in_features = out_features, inputs.shape[-1]
        weight = inputs.new_empty((out_features, inputs.shape[-1]))
        return inputs @ weight.T

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        (gradient,) = gradients
        return gradient @ gradient.new_empty((ctx.out_features, ctx.in_features)), None


class _Int8(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, inputs: torch.Tensor, out_features: int) -> torch.Tensor:
        ctx.kept = inputs.reshape(-1, inputs.shape[-1])  # kept by attribute there as well
        ctx.out_features, ctx.shape = out_features, inputs.shape
        halves = ctx.kept if inputs.dtype == torch.float16 else ctx.kept.to(torch.float16)
        quantized = halves.to(torch.int8)
        del halves
        # In shapes and FLOPs the product of the integers is that of the inputs; its weight is the one that is held.
        result = ctx.kept @ _no_bytes(inputs, out_features, inputs.shape[-1]).T
        del quantized
        return result.reshape((*inputs.shape[:-1], out_features))

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        (gradient,) = gradients
        flat = gradient.reshape(-1, gradient.shape[-1])
        weight = ctx.kept.new_empty((ctx.out_features, ctx.shape[-1]))
        return (flat.to(weight.dtype) @ weight).reshape(ctx.shape), None


def _no_bytes(like: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
    """A matrix of one stored number."""
    return like.new_empty(1).expand(rows, columns)
