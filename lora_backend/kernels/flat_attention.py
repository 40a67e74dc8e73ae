"""Causal attention over a flat batch, in which every token sees its own example and no other.

A flat batch is one row of tokens, the examples one behind the other. `FLAT` is the name under which transformers calls
this from any model that takes its attention by name (https://huggingface.co/docs/transformers/attention_interface).
Where the examples end comes with the call, as `example_lengths`: so it is there again when a checkpoint computes anew.
No mask exists, and no pair of tokens of two examples is computed.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable
from transformers import AttentionInterface

from lora_backend.errors import ModelError
from lora_backend.i18n import N_
from lora_backend.kernels.causal_tiles import Shaping, attend, attend_backward, summing
from lora_backend.kernels.dropped_attention import attend_with_dropout
from lora_backend.kernels.example_blocks import ExampleBlock, blocks_of
from lora_backend.kernels.varlen_attention import attend_on_cuda

FLAT = "flightdeck_flat"


class NoExampleLengthsError(ModelError):
    """A layer was not told where the examples end: its model does not hand on what its forward is given."""


def flat_attention_forward(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None = None,
    *,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: torch.Tensor | None = None,
    example_lengths: tuple[int, ...] | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """What transformers calls: query (1, heads, tokens, D), key and value with as many heads or fewer.

    Returns (1, tokens, heads, E). `s_aux`: a sink for each head. Raises `NoExampleLengthsError`, and `ModelError` where a layer
    asks for what is not computed here.
    """
    if example_lengths is None:
        raise NoExampleLengthsError(
            N_("{layer} is not told where the rows of a batch end. Set `batching: padded`."),
            layer=type(module).__name__,
        )
    if not _is_plain(module, query, key, attention_mask, kwargs):
        raise ModelError(
            N_("{layer} asks for an attention that rows without padding do not have. Set `batching: padded`."),
            layer=type(module).__name__,
        )
    kind = query.device.type
    has_autocast = torch.amp.is_autocast_available(kind)  # the meta device has none
    if has_autocast and torch.is_autocast_enabled(kind):  # as it does with torch's own attention
        dtype = torch.get_autocast_dtype(kind)
        query, key, value = query.to(dtype), key.to(dtype), value.to(dtype)
    window = sliding_window if sliding_window is not None and sliding_window < max(example_lengths) else None
    shaping = Shaping(query.shape[-1] ** -0.5 if scaling is None else scaling, window, softcap)
    with torch.autocast(kind, enabled=False) if has_autocast else nullcontext():
        if kind == "cuda":
            ends = kwargs.get("cu_seq_lens_q")
            return attend_on_cuda(query, key, value, example_lengths, shaping, ends, dropout=dropout, sinks=s_aux), None
        if dropout > 0:
            return attend_with_dropout(query, key, value, example_lengths, shaping, dropout, s_aux), None
        return _FlatAttention.apply(query, key, value, s_aux, blocks_of(example_lengths), shaping), None


def _is_plain(
    module: nn.Module, query: torch.Tensor, key: torch.Tensor, mask: torch.Tensor | None, kwargs: dict[str, Any]
) -> bool:
    """Whether it is causal attention of one row over itself, without a mask or a bias of the model's own."""
    causal = kwargs.get("is_causal")
    causal = getattr(module, "is_causal", True) if causal is None else causal
    own = mask is None and kwargs.get("position_bias") is None
    return bool(causal) and own and len(query) == 1 and query.shape[2] == key.shape[2]


class _FlatAttention(torch.autograd.Function):
    """Keeps query, key and value as they came, and nothing else."""

    @staticmethod
    def forward(
        ctx: Any,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        sinks: torch.Tensor | None,
        blocks: tuple[ExampleBlock, ...],
        shaping: Shaping,
    ) -> torch.Tensor:
        ctx.save_for_backward(query, key, value, sinks)
        ctx.blocks, ctx.shaping = blocks, shaping
        flat_query, flat_key, flat_value = _by_key_head(query, key), key[0].transpose(0, 1), value[0].transpose(0, 1)
        output = query.new_empty(*flat_query.shape[:-1], value.shape[-1])
        for block in blocks:
            one_query, one_key, one_value = (
                block.gathered(flat).flatten(0, 1) for flat in (flat_query, flat_key, flat_value)
            )
            found = attend(one_query, one_key, one_value, shaping, _for_block(sinks, key, block))
            block.put_back(found.unflatten(0, (block.count, -1)), output)
            del one_query, one_key, one_value, found  # not held beside the next block's
        return output.flatten(1, 2)[None]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> Any:
        query, key, value, sinks = ctx.saved_tensors
        flats = [_by_key_head(query, key), key[0].transpose(0, 1), value[0].transpose(0, 1)]
        flat_gradient = gradient[0].unflatten(1, (key.shape[1], -1))
        found = [flat.new_empty(flat.shape) for flat in flats]
        sink_gradient = None if sinks is None else summing(sinks)
        for block in ctx.blocks:
            of_output, *parts = (block.gathered(flat).flatten(0, 1) for flat in (flat_gradient, *flats))
            one_query, one_key, one_value = parts
            *of_block, of_sinks = attend_backward(
                of_output, one_query, one_key, one_value, ctx.shaping, _for_block(sinks, key, block)
            )
            for part, flat in zip(of_block, found, strict=True):
                block.put_back(part.unflatten(0, (block.count, -1)), flat)
            if sink_gradient is not None and of_sinks is not None:
                sink_gradient += of_sinks.reshape(block.count, -1).sum(0)
            del of_output, parts, one_query, one_key, one_value, of_block, of_sinks, part
        found[0] = found[0].flatten(1, 2)
        if sinks is not None and sink_gradient is not None:
            sink_gradient = sink_gradient.to(sinks.dtype)
        return *(flat.transpose(0, 1)[None] for flat in found), sink_gradient, None, None


def _by_key_head(query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
    """(1, heads, tokens, D) → (tokens, key heads, query heads of each, D)"""
    return query[0].transpose(0, 1).unflatten(1, (key.shape[1], -1))


def _for_block(sinks: torch.Tensor | None, key: torch.Tensor, block: ExampleBlock) -> torch.Tensor | None:
    """One sink a query head → (examples × key heads, query heads of each)"""
    return None if sinks is None else sinks.reshape(key.shape[1], -1).repeat(block.count, 1)


AttentionInterface.register(FLAT, flat_attention_forward)
