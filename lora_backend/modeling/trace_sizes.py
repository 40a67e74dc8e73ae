"""At which sizes a step is traced: what a model's config says of its windows, its positions and the loss's tiles."""

from __future__ import annotations

from typing import Any

from lora_backend.modeling.loss import TILE_BYTES
from lora_backend.planning.profile import TraceSettings
from lora_backend.planning.scaling import Size


def attention_windows(config: Any) -> tuple[int, ...]:
    """Lengths of a model's attention windows in tokens; a row as long as one needs a mask."""
    text = config.get_text_config(decoder=True)
    types = getattr(text, "layer_types", None) or ()
    windows = set()
    for kind, name in (("sliding_attention", "sliding_window"), ("chunked_attention", "attention_chunk_size")):
        length = getattr(text, name, None)
        if isinstance(length, int) and (kind in types or not types):
            windows.add(length)
    return tuple(sorted(windows))


def tile_tokens(config: Any) -> int:
    """Tokens in a tile of the chunked loss."""
    return max(TILE_BYTES // (4 * config.get_text_config(decoder=True).vocab_size), 1)


def max_positions(config: Any) -> int | None:
    """How many tokens a row may have, by the model's config."""
    text = config.get_text_config(decoder=True)
    names = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length")
    return next((int(getattr(text, name)) for name in names if getattr(text, name, None)), None)


def trace_sizes(settings: TraceSettings, windows: tuple[int, ...], positions: int | None, tile: int) -> list[Size]:
    """Three sizes whose ratios tell all monomials apart, on the same side of every attention window.

    `tile` is the number of tokens in a tile of the chunked loss: all sizes have several, or all have one.
    """
    rows = (2, 3, 5) if settings.padded else (1, 1, 1)
    tile = round(tile / settings.labelled)
    longer = [window - 1 for window in windows if window > settings.tokens_above]
    high = min([*longer, positions or 2**20])
    low = max(settings.tokens_above, min(384, high // 3), 8)
    if settings.is_tiled:
        # Two tiles and more; where rows cannot be so long, more than one.
        low = max(low, min(2 * tile // rows[0] + 1, max(high * 2 // 3, tile // rows[0] + 1), high - 4))
    elif settings.loss_type == "chunked_nll":
        high = min(high, max(tile // rows[-1], 4))
        low = min(low, max(high // 3, 1))
    high = max(min(high, 3 * low), low + 4)
    tokens = [low, low + (high - low) * 3 // 10, high - (high - low) // 10]
    # Odd lengths are padded by some kernels; where there is room, take what users take.
    tokens = [-(-number // 8) * 8 for number in tokens[:2]] + [tokens[2] // 8 * 8] if high - low > 80 else tokens
    return [Size(*size) for size in zip(rows, tokens, (8, 20, 36), strict=True)]
