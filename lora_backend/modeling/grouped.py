"""Products of grouped matrices, by which mixtures of experts compute: their shapes and FLOPs without values.

torch knows the shapes of `_grouped_mm` for bf16 alone, although it computes other formats as well. transformers takes it
on the CPU and on GPUs from compute capability 8.0 on; older ones, for which fp16 is chosen, get an operation of
transformers' own, whose backward pass makes the gradient of the experts' weights even where they are frozen.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from math import prod
from typing import Any

import torch
from transformers.integrations import moe


def _shape(one: torch.Tensor, other: torch.Tensor, offsets: torch.Tensor | None) -> tuple[int, ...]:
    """Of a product: rows of a matrix may be parted among matrices of weights, or its inner side among the groups."""
    if one.dim() == 2 and other.dim() == 2:
        assert offsets is not None
        return offsets.shape[0], one.shape[0], other.shape[1]
    if one.dim() == 3 and other.dim() == 3:
        return one.shape[0], one.shape[1], other.shape[2]
    return one.shape[-2], other.shape[-1]


def _grouped(
    one: torch.Tensor, other: torch.Tensor, offs: torch.Tensor | None = None, bias: Any = None, out_dtype: Any = None
) -> torch.Tensor:
    return one.new_empty(_shape(one, other, offs), dtype=out_dtype or one.dtype)


def _grouped_flops(one: torch.Tensor, other: torch.Tensor, offs: torch.Tensor | None = None, *_: Any, **__: Any) -> int:
    """Each number of the result is a sum over the inner side; parted among the groups, that counts once for all of them."""
    groups = offs.shape[0] if offs is not None and one.dim() == other.dim() == 2 else 1
    return 2 * prod(_shape(one, other, offs)) * one.shape[-1] // groups


def _fallback_flops(one: torch.Tensor, weights: torch.Tensor, *_: Any, **__: Any) -> int:
    return 2 * one.shape[0] * weights.shape[1] * weights.shape[2]


SHAPES: dict[Any, Callable[..., Any]] = {torch.ops.aten._grouped_mm: _grouped}
"""Operations that are given their result without being run, where their tensors have no values."""
FLOPS: dict[Any, Callable[..., int]] = {
    torch.ops.aten._grouped_mm: _grouped_flops,
    torch.ops.transformers.grouped_mm_fallback: _fallback_flops,
}
if hasattr(torch.ops.transformers, "grouped_mm_fallback_backward"):  # before 5.23 its products are seen one by one
    # The gradient of the input and that of the weights.
    FLOPS[torch.ops.transformers.grouped_mm_fallback_backward] = lambda *args, **_: 2 * _fallback_flops(*args)


@contextlib.contextmanager
def as_the_gpu_takes(precision: str) -> Iterator[None]:
    """Let mixtures compute by the operation that a GPU takes on which `precision` is what is trained in."""
    original = moe._can_use_grouped_mm
    moe._can_use_grouped_mm = lambda *_: precision != "fp16"
    try:
        yield
    finally:
        moe._can_use_grouped_mm = original
