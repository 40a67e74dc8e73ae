"""The training step of one micro-batch: forward, loss and backward.

Training runs it on real tensors and the plan's trace on fake ones, so what is planned is what runs. For that it takes
lengths and counts as Python ints, never reads a tensor's value, and changes nothing outside of the model it is given.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.amp.grad_scaler import GradScaler

from lora_backend.modeling.devices import DTYPES
from lora_backend.modeling.loss import ChunkedLoss, verified_chunked_loss


@dataclass(frozen=True)
class LossPath:
    """How a model's loss is computed. Made once for a model, before its first step."""

    takes_count: bool
    """Whether the model divides its summed loss by a count that it is given; else it takes the mean of each micro-batch."""
    chunked: ChunkedLoss | None = None
    """The loss in pieces; None: the model's own, from the logits of all tokens."""

    @classmethod
    def of(cls, model: nn.Module, chunked: ChunkedLoss | None = None) -> LossPath:
        return cls(accepts_count(model), chunked)

    @classmethod
    def verified(cls, model: nn.Module, loss_type: str, precision: str) -> LossPath:
        """The path that `loss_type` names, tried on a few tokens where it is in pieces.

        Raises `ModelError` where the pieces do not add up to the model's own loss.
        """
        if loss_type != "chunked_nll":
            return cls.of(model)
        with computing_in(precision, inputs_device(model)):
            return cls.of(model, verified_chunked_loss(model))


def micro_batch_step(
    model: nn.Module,
    batch: Mapping[str, Any],
    *,
    precision: str,
    loss_path: LossPath,
    num_items: int,
    passes: int = 1,
    scaler: GradScaler | None = None,
) -> torch.Tensor:
    """Add the gradients of one micro-batch to those that are there.

    Returns this micro-batch's share of the optimizer step's loss, detached, on the head's device: the shares of all
    micro-batches of the step add up to its mean loss per labelled token.

    `batch`: input_ids, attention_mask and labels, all rows × tokens, on any device. `model` is in training mode, with
    gradient checkpointing already on where it is wanted.
    `precision`: fp32, bf16 or fp16; in the last two the forward pass runs under autocast.
    `num_items`: labels that count (see `labels_that_count`), summed over all micro-batches of the optimizer step.
    `passes`: micro-batches of the optimizer step. Models that take no count average each micro-batch for itself, and
    these averages are weighted alike; models that take one ignore `passes`. Both is what transformers' Trainer does.
    `scaler`: for fp16; whoever passes it unscales the gradients, steps and updates.
    """
    loss = micro_batch_loss(model, batch, precision=precision, loss_path=loss_path, num_items=num_items)
    if not loss_path.takes_count:
        loss = loss / passes
    (loss if scaler is None else scaler.scale(loss)).backward()
    return loss.detach()


def micro_batch_loss(
    model: nn.Module, batch: Mapping[str, Any], *, precision: str, loss_path: LossPath, num_items: int
) -> torch.Tensor:
    """The forward half of `micro_batch_step`, which an evaluation runs without gradients.

    There `num_items` is the batch's own count, so that the result is the batch's mean loss.
    """
    device = inputs_device(model)
    inputs = {name: value.to(device) if isinstance(value, torch.Tensor) else value for name, value in batch.items()}
    if loss_path.takes_count:
        inputs["num_items_in_batch"] = num_items
    in_pieces = loss_path.chunked.active() if loss_path.chunked is not None else nullcontext()
    with computing_in(precision, device), in_pieces:
        loss: torch.Tensor = model(**inputs, use_cache=False)["loss"]
    return loss


def inputs_device(model: nn.Module) -> torch.device:
    """Where inputs go: to the embedding."""
    embedding: nn.Module = model.get_input_embeddings()  # type: ignore[operator]  # transformers' and PEFT's models have it
    return next(embedding.parameters()).device


def computing_in(precision: str, device: torch.device) -> AbstractContextManager[Any]:
    """Within the block a forward pass computes in this precision: under autocast unless it is fp32."""
    return nullcontext() if precision == "fp32" else torch.autocast(device.type, dtype=DTYPES[precision])


def accepts_count(model: nn.Module) -> bool:
    """Whether a model's loss is divided by `num_items_in_batch`, decided as transformers' Trainer decides it."""
    causal: Any = model.get_base_model() if hasattr(model, "get_base_model") else model  # type: ignore[operator]
    if hasattr(causal, "accepts_loss_kwargs"):
        return bool(causal.accepts_loss_kwargs)
    parameters = inspect.signature(causal.forward).parameters.values()
    return any(parameter.kind == inspect.Parameter.VAR_KEYWORD for parameter in parameters)
