"""Attention of a flat batch on CUDA: torch's flash attention over examples of different length, in one call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from lora_backend.errors import ModelError
from lora_backend.i18n import N_
from lora_backend.kernels.causal_tiles import Shaping
from lora_backend.kernels.flat_inputs import boundaries

MOST_HEAD_DIM = 256
"""Flash attention's limit (torch, `check_flash_attention_head_dim_size`)."""
SINCE = (8, 0)
"""Compute capability from which flash attention runs (torch, `check_flash_attention_hardware_support`)."""


def varlen() -> Callable[..., Any] | None:
    """torch's own function, which releases before 2.10 do not have."""
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return None
    return varlen_attn  # type: ignore[no-any-return]


def attend_on_cuda(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    lengths: tuple[int, ...],
    shaping: Shaping,
    ends: torch.Tensor | None = None,
    *,
    dropout: float = 0.0,
    sinks: torch.Tensor | None = None,
) -> torch.Tensor:
    """query (1, heads, tokens, D), key and value → (1, tokens, heads, E).

    `ends`: `boundaries(lengths)`, where the batch brought them. Raises `ModelError` where torch's kernel does not compute what is
    asked for; `flat_structure` says so before training.
    """
    attention = varlen()
    if attention is None or shaping.softcap is not None or dropout > 0 or sinks is not None:
        raise ModelError(N_("This attention needs a kernel that torch does not have. Set `batching: padded`."))
    ends = boundaries(lengths, query.device) if ends is None else ends.to(query.device)
    longest, width = max(lengths), value.shape[-1]
    if width < key.shape[-1]:  # the kernel takes one width; what is added stays zero and is cut off
        value = torch.nn.functional.pad(value, (0, key.shape[-1] - width))
    output = attention(
        *(part[0].transpose(0, 1) for part in (query, key, value)), ends, ends, longest, longest,
        scale=shaping.scaling,
        window_size=(-1 if shaping.window is None else shaping.window - 1, 0),
        enable_gqa=query.shape[1] != key.shape[1],
    )  # fmt: skip
    return output[None, ..., :width]  # type: ignore[no-any-return]
