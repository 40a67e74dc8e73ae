"""At which sizes a step is traced: what a model's config says of its windows, its positions and the loss's tiles."""

from __future__ import annotations

import inspect
import sys
from typing import Any

from torch import nn

from lora_backend.kernels.causal_tiles import TILE
from lora_backend.modeling.few_tiles import LAST
from lora_backend.modeling.loss import TILE_BYTES
from lora_backend.planning.cost.scaling import Size
from lora_backend.planning.cost.trace_settings import TraceSettings

RANKS = (8, 20, 36)
MORE_CHUNKS = (0, 1, 3)
MIN_CHUNKS = 4
"""Of a traced row: two rounds of a scan behind what is folded, and those that begin otherwise; see `step_loops.py`."""

RESTS = (6, 8, 11)
"""Tokens behind the last whole chunk, where these go one by one."""


def attention_windows(config: Any) -> tuple[int, ...]:
    """Lengths of a model's attention windows in tokens; a row as long as one needs a mask."""
    text = config.get_text_config(decoder=True)
    types = getattr(text, "layer_types", None) or ()
    windows = set()
    for kind, name in (("sliding_attention", "sliding_window"), ("chunked_attention", "attention_chunk_size")):
        length = getattr(text, name, None)
        if isinstance(length, int) and length > 0 and (kind in types or not types):
            windows.add(length)
    return tuple(sorted(windows))


def tile_tokens(config: Any) -> int:
    """Tokens in a tile of the chunked loss."""
    return max(TILE_BYTES // (4 * config.get_text_config(decoder=True).vocab_size), 1)


def max_positions(config: Any) -> int | None:
    """How many tokens a row may have, by the model's config."""
    text = config.get_text_config(decoder=True)
    names = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length")
    said = [getattr(text, name, None) for name in names]
    return next((int(number) for number in said if isinstance(number, int | float) and number >= 1), None)


def scan_chunk(config: Any, blocks: nn.ModuleList) -> int:
    """Tokens in a chunk of the blocks' scans (Mamba 2, linear attention): of the config, of the modules, or what the
    family's own functions take by default; 1 where they have none."""
    text = config.get_text_config(decoder=True)
    found = {getattr(text, name, None) for name in ("chunk_size", "mamba_chunk_size")}
    classes = {type(module): module for block in blocks for module in block.modules()}
    found |= {
        module.block_size
        for kind, module in classes.items()
        if "Lightning" in kind.__name__ and hasattr(module, "block_size")
    }
    families = {sys.modules[kind.__module__] for kind in classes if kind.__module__.startswith("transformers.models.")}
    functions = [value for family in families for value in vars(family).values() if inspect.isfunction(value)]
    found |= {_default(function, "chunk_size") for function in functions}
    return max((chunk for chunk in found if isinstance(chunk, int)), default=1)


def _default(function: Any, name: str) -> Any:
    parameter = inspect.signature(function).parameters.get(name)
    return None if parameter is None else parameter.default


def trace_sizes(
    settings: TraceSettings, windows: tuple[int, ...], positions: int | None, tile: int, chunk: int = 1
) -> list[Size]:
    """Three sizes whose ratios tell all monomials apart, on the same side of every attention window.

    `tile` is the number of tokens in a tile of the chunked loss: all sizes have several, or all have one. `chunk` is the
    number in a chunk of the model's scans, which pad rows to whole ones. Rows of a real flat batch are as they are: only
    the rank differs.
    """
    if settings.lengths is not None:
        return [Size(len(settings.lengths), max(settings.lengths), rank) for rank in RANKS]
    rows = _rows(settings)
    tile = round(tile / settings.labelled)
    longer = [window - 1 for window in windows if window > settings.tokens_above]
    high = min([*longer, positions or 2**20])
    usual = 384 if chunk == 1 else MIN_CHUNKS * chunk
    # The last tiles of flat attention are full ones, and behind a window see no more than the window.
    tiles = LAST * TILE if settings.batching == "flat" else 0
    above = settings.tokens_above + (tiles if settings.tokens_above else 0)
    low = max(above, min(usual, _part_of(high, tiles)), 8)
    if settings.is_tiled:
        # Two tiles and more; where rows cannot be so long, more than one.
        low = max(low, min(2 * tile // rows[0] + 1, max(high * 2 // 3, tile // rows[0] + 1), high - 4))
    elif settings.loss_type == "chunked_nll":
        high = min(high, max(tile // rows[-1], 4))
        low = min(low, max(_part_of(high, tiles), 1))
    high = max(min(high, 3 * low), low + 4)
    tokens = [low, low + (high - low) * 3 // 10, high - (high - low) // 10]
    # Odd lengths are padded by some kernels; where there is room, take what users take.
    tokens = [-(-number // 8) * 8 for number in tokens[:2]] + [tokens[2] // 8 * 8] if high - low > 80 else tokens
    parts = _parts_of_chunks(low, chunk) if chunk > 1 else tokens
    return [Size(*size) for size in zip(rows, parts if max(parts) <= high else tokens, RANKS, strict=True)]


def _part_of(high: int, least: int) -> int:
    """A third of it, or `least` where there is room for that."""
    return max(high // 3, least if 2 * least <= high else 0)


def _rows(settings: TraceSettings) -> tuple[int, int, int]:
    """Of a flat batch always several: rows of one length are computed by the same operations, however many there are."""
    return (2, 3, 5) if settings.uneven or settings.batching == "flat" else (1, 1, 1)


def short_sizes(settings: TraceSettings, chunk: int = 1) -> list[Size]:
    """Three sizes for models that go through a row token by token: a few rounds tell as much as a thousand.

    Where there are chunks, single tokens are the ones behind the last whole one (xLSTM), and there are a few of them.
    """
    rows = _rows(settings)
    low = settings.tokens_above
    tokens = [low + 24, low + 32, low + 40]
    if chunk > 1:
        fewest = max(low // chunk + 1, MIN_CHUNKS)
        rests = (min(rest, chunk - 1) for rest in RESTS)
        tokens = [(fewest + more) * chunk + rest for more, rest in zip(MORE_CHUNKS, rests, strict=True)]
    return [Size(*size) for size in zip(rows, tokens, RANKS, strict=True)]


def _parts_of_chunks(low: int, chunk: int) -> list[int]:
    """Lengths above `low` of unequal numbers of chunks with unequal gaps in the last of each: what grows with whole
    chunks and what with tokens can be told apart."""
    step = 8 if chunk >= 64 else 1
    fewest = max(low // chunk + 1, MIN_CHUNKS)
    gaps = [max(chunk * share // 8 // step, 1) * step for share in (2, 5, 3)]
    return [(fewest + more) * chunk - gap for more, gap in zip(MORE_CHUNKS, gaps, strict=True)]
