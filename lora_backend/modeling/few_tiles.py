"""Attention of a flat batch in a trace: the memory of all of its tiles, by computing the last two.

`kernels/causal_tiles.py` goes through the queries of each example by tiles, each with more keys than the one before, and
what a tile makes is gone when the next but one begins. So the last two hold at most what all of them do, and how often the
loop goes round depends on no size. FLOPs are those of all tiles.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from lora_backend.kernels import causal_tiles, flat_attention
from lora_backend.kernels.causal_tiles import TILE, Shaping
from lora_backend.kernels.example_blocks import ExampleBlock
from lora_backend.modeling.tracker import TensorTracker

LAST = 2
"""Tiles, and blocks of examples, that are computed: of the one before the last there are tensors left."""
PRODUCTS = {"attend": (1, 1), "attend_backward": (3, 2)}
"""Of a tile, over the width of keys and over that of values: forward, and backward with the scores once more."""


@contextmanager
def few_tiles(tracker: TensorTracker, *, alone: bool) -> Iterator[None]:
    """Within the block flat attention computes so.

    `alone`: all examples are of one length, each is computed by itself, and the last two stand for all. So it is with more
    than 512 tokens (`kernels/example_blocks.py`); shorter ones are computed some together, which takes little either way.
    Else blocks are as the examples' own lengths make them.
    """
    standing_for = 1.0

    def last_examples(lengths: tuple[int, ...]) -> tuple[ExampleBlock, ...]:
        nonlocal standing_for
        first = max(len(lengths) - LAST, 0)
        standing_for = len(lengths) / (len(lengths) - first)
        return tuple(ExampleBlock((sum(lengths[:i]),), (lengths[i],)) for i in range(first, len(lengths)))

    def counted(name: str, compute: Callable[..., Any]) -> Callable[..., Any]:
        by_key, by_value = PRODUCTS[name]

        def run(*arguments: Any) -> Any:
            query, _, value, shaping, _ = arguments[-5:]
            recording = tracker.recording
            begun = len(recording.flops)
            found = compute(*arguments)
            width = by_key * query.shape[-1] + by_value * value.shape[-1]
            flops = 2 * query.shape[0] * query.shape[2] * width * pairs(query.shape[1], shaping)
            recording.flops[begun:] = [(len(recording.storages), int(standing_for * flops), name)]
            return found

        return run

    with ExitStack() as stack:
        stack.enter_context(_replaced(causal_tiles, "starts_of", last_starts))
        for name in PRODUCTS:
            stack.enter_context(_replaced(flat_attention, name, counted(name, getattr(causal_tiles, name))))
        if alone:
            stack.enter_context(_replaced(flat_attention, "blocks_of", last_examples))
        yield


def last_starts(length: int) -> tuple[int, ...]:
    """Where the last tiles begin: full ones, that what they hold grows with the tokens alone."""
    return tuple(sorted({max(length - number * TILE, 0) for number in range(1, LAST + 1)}))


def pairs(length: int, shaping: Shaping) -> int:
    """Of a query and a key, in all tiles of an example: each tile has its keys up to its own end."""
    window = shaping.window
    if window is None:
        return length * (length + TILE) // 2
    return length * (window + TILE - 1) - (window - 1) * (window + TILE) // 2  # the first tokens see fewer


@contextmanager
def _replaced(module: Any, name: str, function: Callable[..., Any]) -> Iterator[None]:
    before = getattr(module, name)
    setattr(module, name, function)
    try:
        yield
    finally:
        setattr(module, name, before)
