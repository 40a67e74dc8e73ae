"""What a model is called with for a flat batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch


def flat_inputs(batch: Mapping[str, Any]) -> dict[str, Any]:
    """Keyword arguments of a model's forward, from a flat batch: input_ids, labels and position_ids (1 × tokens), and
    `lengths`, one for each example, that add up to the tokens.

    Where the examples end is told twice: to our attention (`example_lengths`), and in transformers' own words to whatever else in
    a model goes from token to token (linear attention, flash attention).
    """
    inputs = {name: value for name, value in batch.items() if name != "lengths"}
    lengths: tuple[int, ...] = tuple(batch["lengths"])
    ends, longest = boundaries(lengths, batch["input_ids"].device), max(lengths)
    return inputs | {
        "example_lengths": lengths,
        "cu_seq_lens_q": ends,
        "cu_seq_lens_k": ends,
        "max_length_q": longest,
        "max_length_k": longest,
    }


def boundaries(lengths: tuple[int, ...], device: torch.device) -> torch.Tensor:
    """Where each example begins, and the last one ends: (examples + 1,), int32, as flash attention wants it."""
    ends = [0]
    for length in lengths:
        ends.append(ends[-1] + length)
    return torch.tensor(ends, dtype=torch.int32, device=device)
