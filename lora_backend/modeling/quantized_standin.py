"""Linear layers that take the memory of quantized ones, for traces: their kernels do not run on tensors without bytes.

What they hold is told by `models/packing.py`. What they make for a moment and keep for the backward pass follows
- bitsandbytes: `autograd/_functions.py` (MatMul4Bit, and MatMul8bitLt as it runs on GPUs); tests hold the result against it on the CPU
- GPTQ: `TorchLinear` of gptqmodel, which every layer of it that trains calls; autograd keeps the weight that it unpacks
- AWQ: `AwqGemmTritonFn` of gptqmodel, which unpacks to fp16, in forward and in backward
- HQQ and AQLM: `HQQMatmulNoCacheDeq` and `_QuantizedMatmul`, which keep their input
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn
from transformers.pytorch_utils import Conv1D

from lora_backend.models.packing import Packing


def stand_in_for(layers: Iterable[nn.Module], model: nn.Module, packing: Packing, dtype: torch.dtype) -> None:
    """Put a stand-in for each of `layers`, wherever it hangs in `model`; `dtype`: what the run computes in."""
    chosen = {id(layer) for layer in layers}
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if id(child) in chosen:
                setattr(module, name, _StandIn(child, packing, dtype, is_adapted=isinstance(module, BaseTunerLayer)))


class _StandIn(nn.Module):
    def __init__(self, layer: Any, packing: Packing, dtype: torch.dtype, *, is_adapted: bool) -> None:
        super().__init__()
        shape = tuple(layer.weight.shape)
        self.out_features, self.in_features = reversed(shape) if isinstance(layer, Conv1D) else shape
        self.kind, self.is_adapted = packing.kind, is_adapted
        self.compute_dtype = getattr(torch, packing.compute) if packing.compute else dtype
        self.codes_dtype = torch.int16 if packing.bits == 8 else torch.int8
        device = layer.weight.device
        sizes = packing.layer_bytes(self.in_features, self.out_features, layer.weight.element_size())
        for name, size_bytes in zip(("packed", "scales"), sizes, strict=True):
            self.register_buffer(name, torch.empty(size_bytes, dtype=torch.uint8, device=device))
        self.bias, layer.bias = layer.bias, None
        self.weight = _Shape(shape, layer.weight.dtype, device)
        if packing.kind in ("4bit", "int8", "hqq"):
            self.W_q = None  # PEFT then asks this layer for its weight, as DoRA needs it

    def dequantize(self) -> torch.Tensor:
        """The weight as its library would give it to DoRA."""
        return self.packed.new_empty((self.out_features, self.in_features), dtype=self.weight.dtype)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """What the layer it stands for computes, as far as shapes go."""
        given = inputs.dtype
        trains_bias = self.bias is not None and self.bias.requires_grad
        result = self._product(inputs)
        if self.bias is not None and not trains_bias and self.kind != "int8":
            result = result + self.bias
        result = result.to(given)
        if trains_bias:  # it is added behind the layer, see trained_dtype.py
            result = result + self.bias.to(given)
        return result.clone() if self.kind == "4bit" and self.is_adapted else result  # PEFT copies what that returns

    def _product(self, inputs: torch.Tensor) -> torch.Tensor:
        match self.kind:
            case "int8":
                return _Int8.apply(inputs, self.out_features)  # type: ignore[no-any-return]
            case "gptq":
                return inputs @ self._unpacked().to(inputs.dtype)
            case "awq":
                return _Packed.apply(inputs.to(torch.float16), self.out_features, False)  # type: ignore[no-any-return]
            case "hqq" | "aqlm":
                return _Packed.apply(inputs, self.out_features, True)  # type: ignore[no-any-return]
            case _:
                return _Packed.apply(inputs.to(self.compute_dtype), self.out_features, False)  # type: ignore[no-any-return]

    def _unpacked(self) -> torch.Tensor:
        """As `dequantize_weight` of gptqmodel makes it: integers, then scale and zero of each weight's group."""
        new, shape = self.packed.new_empty, (self.in_features, self.out_features)
        codes = new(shape, dtype=torch.int32).to(self.codes_dtype)
        codes = codes & 15
        scales = new(shape, dtype=torch.float16)
        return scales * (codes - new(shape, dtype=self.codes_dtype))


class _Shape:
    """What adapters ask of the weight they lie on."""

    def __init__(self, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> None:
        self.shape, self.dtype, self.device = torch.Size(shape), dtype, device


class _Packed(torch.autograd.Function):
    """A product whose weight is unpacked in forward and again in backward."""

    @staticmethod
    def forward(ctx: Any, inputs: torch.Tensor, out_features: int, keeps_input: bool) -> torch.Tensor:
        ctx.out_features, ctx.in_features = out_features, inputs.shape[-1]
        if keeps_input:
            ctx.save_for_backward(inputs)
        weight = inputs.new_empty((out_features, inputs.shape[-1]))
        return inputs @ weight.T

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        (gradient,) = gradients
        return gradient @ gradient.new_empty((ctx.out_features, ctx.in_features)), None, None


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
