"""Causal attention as plain products over tiles of queries, each seeing the keys up to its end and no others.

Nothing but the inputs is kept: the backward pass computes each tile's probabilities again. A tile has all of its keys,
so softmax and its gradient are torch's own. In 16 bits scores are computed in fp32 as in flash attention: rounded, a score of 20 is
wrong by 0.06, and so is its probability by 6 %.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch

TILE = 64
"""Queries of a tile: fewer compute less in vain, but their products are slow in 16 bits (`python -m benchmarks attention`)."""


@dataclass(frozen=True)
class Shaping:
    """What makes scores of products, and probabilities of scores."""

    scaling: float
    window: int | None = None
    """How many tokens a query sees, itself among them; None: all before it."""
    softcap: float | None = None
    """Scores are c · tanh(score / c) (Gemma 2: https://arxiv.org/abs/2408.00118, section 2)."""


def attend(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, shaping: Shaping, sinks: torch.Tensor | None = None
) -> torch.Tensor:
    """query (batch, length, groups, D), key (batch, length, D), value (batch, length, E) → (batch, length, groups, E).

    `batch` is examples × key heads, `groups` the query heads that share one. `sinks` (batch, groups), in scores' units:
    a key that every query sees and that has no value.
    """
    output = query.new_empty(*query.shape[:-1], value.shape[-1])
    for tile in _tiles(query, key, shaping, sinks):
        output[:, tile.queries] = torch.bmm(tile.probabilities, value[:, tile.keys]).unflatten(1, (-1, query.shape[2]))
    return output


def attend_backward(
    gradient: torch.Tensor,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    shaping: Shaping,
    sinks: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """Gradients of query, key, value and sinks, from that of what `attend` returned."""
    groups = query.shape[2]
    query_gradient = torch.empty_like(query)
    key_gradient, value_gradient = summing(key), summing(value)
    sink_gradient = None if sinks is None else summing(sinks)
    for tile in _tiles(query, key, shaping, sinks):
        from_output = gradient[:, tile.queries].flatten(1, 2)
        _add_product(value_gradient[:, tile.keys], tile.probabilities.mT, from_output)
        scores, of_sinks = _softmax_gradient(torch.bmm(from_output, value[:, tile.keys].mT), tile)
        if sink_gradient is not None and of_sinks is not None:
            sink_gradient += of_sinks.unflatten(1, (-1, groups)).sum((1, 3))
        of_queries = _product(scores, key[:, tile.keys], shaping.scaling)
        query_gradient[:, tile.queries] = of_queries.unflatten(1, (-1, groups))
        queries = query[:, tile.queries].flatten(1, 2)
        _add_product(key_gradient[:, tile.keys], scores.mT, queries, shaping.scaling)
    return query_gradient, key_gradient.to(key.dtype), value_gradient.to(value.dtype), sink_gradient


def _product(one: torch.Tensor, other: torch.Tensor, factor: float) -> torch.Tensor:
    """factor · one @ other, in one pass."""
    unread = one.new_empty(()).expand(len(one), one.shape[1], other.shape[2])
    return torch.baddbmm(unread, one, other, beta=0, alpha=factor)


def _add_product(total: torch.Tensor, one: torch.Tensor, other: torch.Tensor, factor: float = 1.0) -> None:
    """total += factor · one @ other"""
    if total.dtype == one.dtype:
        total.baddbmm_(one, other, alpha=factor)
    else:
        total += _product(one, other, factor)


def summing(tensor: torch.Tensor) -> torch.Tensor:
    """Zeros in which many gradients of `tensor` are summed: in 32 bits at least, for 16 would lose what they add."""
    return torch.zeros_like(tensor, dtype=_exact(tensor.dtype))


def _exact(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)


@dataclass(frozen=True)
class _Tile:
    queries: slice
    keys: slice
    """Those that any of the queries sees."""
    probabilities: torch.Tensor
    """(batch, queries × groups, keys)"""
    of_sinks: torch.Tensor | None = None
    """(batch, queries × groups, 1): what goes to the sinks."""
    slope: torch.Tensor | None = None
    """Of the softcap, like the probabilities."""


def starts_of(length: int) -> Iterable[int]:
    """Where the tiles of an example begin."""
    return range(0, length, TILE)


def _tiles(query: torch.Tensor, key: torch.Tensor, shaping: Shaping, sinks: torch.Tensor | None) -> Iterator[_Tile]:
    length, groups = query.shape[1:3]
    dtype = query.dtype
    for start in starts_of(length):
        end = min(start + TILE, length)
        first = 0 if shaping.window is None else max(start - shaping.window + 1, 0)
        queries, keys = slice(start, end), slice(first, end)
        scores = _product(
            query[:, queries].flatten(1, 2).to(_exact(dtype)), key[:, keys].to(_exact(dtype)).mT, shaping.scaling
        )
        slope = None
        if shaping.softcap is not None:
            bent = scores.div_(shaping.softcap).tanh_()
            slope = 1 - bent * bent
            scores = bent * shaping.softcap
        _hide(scores, start, first, end, groups, shaping.window)
        if sinks is None:
            probabilities = torch.softmax(scores, -1).to(dtype)
            del scores  # not held while the tile is worked on
            yield _Tile(queries, keys, probabilities, slope=slope)
            continue
        column = sinks.to(scores.dtype)[:, None].expand(-1, end - start, -1).reshape(len(sinks), -1, 1)
        both = torch.softmax(torch.cat([scores, column], -1), -1).to(dtype)
        yield _Tile(queries, keys, both[..., :-1], both[..., -1:], slope)


def _hide(scores: torch.Tensor, start: int, first: int, end: int, groups: int, window: int | None) -> None:
    """Scores of keys that a query does not see become -inf."""
    begin = start if window is None else first  # all keys before the tile are seen by all of it
    at = torch.arange(start, end, device=scores.device)[:, None]
    keys = torch.arange(begin, end, device=scores.device)
    unseen = keys > at if window is None else (keys > at) | (keys <= at - window)
    hiding = scores.new_zeros(unseen.shape).masked_fill_(unseen, -torch.inf)
    # To add takes a quarter of the time that filling with a mask takes.
    scores[..., begin - first :].unflatten(1, (-1, groups)).add_(hiding[:, None])


def _softmax_gradient(gradient: torch.Tensor, tile: _Tile) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Of the products and of the sinks' scores, from that of the probabilities: p · (g - Σ p g)."""
    if tile.of_sinks is None:
        scores = torch.ops.aten._softmax_backward_data(gradient, tile.probabilities, -1, gradient.dtype)
        of_sinks = None
    else:
        mean = (gradient.to(_exact(gradient.dtype)) * tile.probabilities).sum(-1, keepdim=True)
        scores = ((gradient - mean) * tile.probabilities).to(gradient.dtype)
        of_sinks = -mean * tile.of_sinks
    return scores if tile.slope is None else scores.mul_(tile.slope), of_sinks
