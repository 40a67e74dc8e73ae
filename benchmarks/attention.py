"""Attention over a flat batch, forward and backward, beside torch's own over each example and over the padded batch, in turns.

One thread and its own processor time: other work on the machine takes turns, not time. The heads are SmolLM2-135M's.

    python -m benchmarks attention
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
from torch import nn

from benchmarks.noise import median_and_spread
from lora_backend.kernels.flat_attention import flat_attention_forward

HEADS, KEY_HEADS, WIDTH = 9, 3, 64
TURNS = 7
BATCHES = {
    "12 of 80": (80,) * 12,
    "8 of 55 to 83": (60, 83, 72, 65, 80, 78, 55, 61),
    "4 of 250": (250,) * 4,
    "8 of 60 to 583": (60, 583, 120, 333, 90, 210, 480, 150),
    "1 of 2,048": (2048,),
}
LAYER = nn.Module()
Attend = Callable[..., torch.Tensor]


def main() -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    print(
        "numbers | examples, tokens of each | flat | torch's, each alone | torch's, padded | alone / flat | padded / flat"
    )
    for dtype in (torch.float32, torch.bfloat16):
        for name, lengths in BATCHES.items():
            print(_row(dtype, name, lengths), flush=True)
    torch.set_num_threads(threads)


def _row(dtype: torch.dtype, name: str, lengths: tuple[int, ...]) -> str:
    torch.manual_seed(0)
    flat_shape, padded_shape = (1, sum(lengths)), (len(lengths), max(lengths))
    mask = torch.tensor([[position < length for position in range(max(lengths))] for length in lengths])
    ways: list[tuple[tuple[int, int], Attend]] = [
        (flat_shape, lambda q, k, v: flat_attention_forward(LAYER, q, k, v, example_lengths=lengths)[0]),
        (flat_shape, lambda q, k, v: _alone(q, k, v, lengths)),
        (padded_shape, lambda q, k, v: _torchs(q, k, v, _causal(mask) if len(set(lengths)) > 1 else None)),
    ]
    given = [_inputs(shape, dtype) for shape, _ in ways]
    times: list[list[float]] = [[] for _ in ways]
    for turn in range(TURNS + 1):
        for index, (_, attend) in enumerate(ways):
            begin = time.thread_time()
            output = attend(*given[index])
            torch.autograd.grad(output, given[index], torch.ones_like(output))
            if turn:  # the first one loads code
                times[index].append((time.thread_time() - begin) * 1e3)
    flat, alone, padded = map(statistics.median, times)
    cells = [str(dtype).removeprefix("torch."), name, *(median_and_spread(one, "ms") for one in times)]
    return " | ".join([*cells, f"{alone / flat:.2f}", f"{padded / flat:.2f}"])


def _inputs(shape: tuple[int, int], dtype: torch.dtype) -> list[torch.Tensor]:
    heads = (HEADS, KEY_HEADS, KEY_HEADS)
    return [torch.randn(*shape, count, WIDTH).to(dtype).transpose(1, 2).requires_grad_() for count in heads]


def _torchs(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None = None
) -> torch.Tensor:
    """As transformers calls it: with a mask where rows are padded, and then with keys repeated."""
    if mask is not None:
        key, value = (one.repeat_interleave(HEADS // KEY_HEADS, 1) for one in (key, value))
    output = nn.functional.scaled_dot_product_attention(
        query, key, value, attn_mask=mask, is_causal=mask is None, enable_gqa=mask is None
    )
    return output.transpose(1, 2)


def _alone(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, lengths: tuple[int, ...]) -> torch.Tensor:
    parts = zip(*(one.split(lengths, 2) for one in (query, key, value)), strict=True)
    return torch.cat([_torchs(*part) for part in parts], 1)


def _causal(mask: torch.Tensor) -> torch.Tensor:
    """(rows, tokens) → (rows, 1, tokens, tokens)"""
    length = mask.shape[1]
    return torch.ones(length, length, dtype=torch.bool).tril() & mask[:, None, None]
