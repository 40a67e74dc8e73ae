"""Whether the loss in pieces is a model's own: tried on a few tokens before training."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from lora_backend.modeling.loss import IGNORED, ChunkedLoss, refusal

SAME_LOGITS = 0.02
"""‖difference‖ / ‖logits‖ up to which two ways to the same logits count as one; bf16 rounds by up to 0.4 %."""
SAME_LOSS = 1e-4
"""Relative difference up to which two losses from the same logits count as one; both are computed in fp32."""
TRIED_ROWS, TRIED_TOKENS = 2, 8


def verified_chunked_loss(model: nn.Module) -> ChunkedLoss:
    """The chunked loss of `model`, held against the model's own on a few tokens.

    Own logits must equal those made in pieces, and own loss the cross entropy of own logits: a model that adds
    something to its loss, or that makes logits of more than its hidden states, is refused with a `ModelError`.
    """
    chunked = ChunkedLoss(model)
    embedding = chunked.causal.get_input_embeddings()
    device = next(embedding.parameters()).device
    ids = torch.arange(TRIED_ROWS * TRIED_TOKENS, device=device).reshape(TRIED_ROWS, TRIED_TOKENS)
    ids = ids % chunked.causal.config.get_text_config(decoder=True).vocab_size
    labels = ids.masked_fill(torch.arange(TRIED_TOKENS, device=device) < TRIED_TOKENS // 2, IGNORED)
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            own = model(input_ids=ids, attention_mask=torch.ones_like(ids), labels=labels)
            same = (
                "loss" in own
                and "logits" in own
                and _same_logits(chunked, model, ids, own.logits)
                and _same_loss(own, labels)
            )
    finally:
        model.train(was_training)
    if not same:
        raise refusal(chunked.causal)
    return chunked


def _same_logits(chunked: ChunkedLoss, model: nn.Module, ids: torch.Tensor, own: torch.Tensor) -> bool:
    try:
        logits = chunked.logits_in_pieces(model, ids, TRIED_TOKENS // 2 + 1).reshape(own.shape).to(own.device)
    except torch.OutOfMemoryError:
        raise
    except (AttributeError, KeyError, TypeError, IndexError, RuntimeError, ValueError) as error:
        raise refusal(chunked.causal) from error
    return bool((logits.float() - own.float()).norm() <= SAME_LOGITS * own.float().norm())


def _same_loss(own: Any, labels: torch.Tensor) -> bool:
    vocabulary = own.logits.shape[-1]
    loss = nn.functional.cross_entropy(
        own.logits.float()[:, :-1].reshape(-1, vocabulary), labels[:, 1:].reshape(-1), ignore_index=IGNORED
    )
    return bool((loss.to(own.loss.device) - own.loss).abs() <= SAME_LOSS * loss.abs().to(own.loss.device))
