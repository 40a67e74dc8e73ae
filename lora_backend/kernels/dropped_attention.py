"""Attention of a flat batch with dropout: by ordinary operations, which keep the probabilities of each example."""

from __future__ import annotations

import torch

from lora_backend.kernels.causal_tiles import Shaping


def attend_with_dropout(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    lengths: tuple[int, ...],
    shaping: Shaping,
    dropout: float,
    sinks: torch.Tensor | None = None,
) -> torch.Tensor:
    """query (1, heads, tokens, D), key and value → (1, tokens, heads, E). A probability falls away by chance `dropout`."""
    groups = query.shape[1] // key.shape[1]
    outputs = []
    for one_query, one_key, one_value in zip(*(part[0].split(lengths, 1) for part in (query, key, value)), strict=True):
        probabilities = _probabilities(one_query, one_key.repeat_interleave(groups, 0), shaping, sinks)
        kept = torch.dropout(probabilities.to(value.dtype), dropout, train=True)
        outputs.append(torch.bmm(kept, one_value.repeat_interleave(groups, 0)))
    return torch.cat(outputs, 1).transpose(0, 1)[None]


def _probabilities(
    query: torch.Tensor, key: torch.Tensor, shaping: Shaping, sinks: torch.Tensor | None
) -> torch.Tensor:
    """Of one example: (heads, length, D) twice → (heads, length, length)"""
    scores = torch.bmm(query, key.mT).float() * shaping.scaling
    if shaping.softcap is not None:
        scores = shaping.softcap * torch.tanh(scores / shaping.softcap)
    at = torch.arange(query.shape[1], device=query.device)
    unseen = at > at[:, None]
    if shaping.window is not None:
        unseen |= at <= at[:, None] - shaping.window
    scores = scores.masked_fill(unseen, -torch.inf)
    if sinks is None:
        return torch.softmax(scores, -1)
    column = sinks.to(scores.dtype)[:, None, None].expand(-1, query.shape[1], -1)
    return torch.softmax(torch.cat([scores, column], -1), -1)[..., :-1]
