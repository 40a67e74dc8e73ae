"""NEFTune: noise on the embeddings while training (Jain et al. 2023, arXiv 2310.05914).

Each number of an example's embeddings gets uniform noise from [−1, 1] times α / √(L·d), L its tokens and d the width.
L counts the example's own tokens; transformers' hook counts the padding of its batch with them, so that the same row is
disturbed less beside a longer one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn


@contextmanager
def embedding_noise(model: nn.Module, batch: Mapping[str, Any], alpha: float) -> Iterator[None]:
    """Within the block a forward pass of `batch` (flat or padded) has noise on its embeddings.

    Drawn from torch's generator of the embedding's device, once a pass: a checkpoint computes blocks again, and the
    embedding stands before them. Padding is disturbed as well, and nobody sees it.
    """

    def disturb(_: nn.Module, __: Any, embedded: torch.Tensor) -> torch.Tensor:
        strength = alpha * _lengths(batch, embedded).mul(embedded.shape[-1]).rsqrt()
        noise = torch.empty_like(embedded, dtype=torch.float32).uniform_(-1, 1)
        return embedded + noise.mul_(strength).to(embedded.dtype)

    embedding: nn.Module = model.get_input_embeddings()  # type: ignore[operator]  # transformers' and PEFT's models have it
    handle = embedding.register_forward_hook(disturb)
    try:
        yield
    finally:
        handle.remove()


def _lengths(batch: Mapping[str, Any], embedded: torch.Tensor) -> torch.Tensor:
    """Tokens of the example that each token belongs to, in fp32 and to be broadcast over `embedded`."""
    if "lengths" in batch:
        per_token = [float(length) for length in batch["lengths"] for _ in range(length)]
        return torch.tensor(per_token, device=embedded.device)[None, :, None]
    mask = batch.get("attention_mask")
    if mask is None:
        return torch.full((1, 1, 1), float(embedded.shape[1]), device=embedded.device)
    return mask.to(embedded.device).sum(dim=-1).float()[:, None, None]
