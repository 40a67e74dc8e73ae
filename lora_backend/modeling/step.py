"""The training step of one micro-batch: forward, loss and backward.

Training runs it on real tensors and the plan's trace on fake ones, so what is planned is what runs. For that it takes
lengths and counts as Python ints, never reads a tensor's value, and changes nothing outside of the model it is given.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.amp.grad_scaler import GradScaler
from torch.distributed.tensor import DTensor
from transformers.trainer_pt_utils import LabelSmoother

from lora_backend.errors import ModelError
from lora_backend.kernels.flat_inputs import flat_inputs
from lora_backend.modeling.devices import DTYPES
from lora_backend.modeling.embedding_noise import embedding_noise
from lora_backend.modeling.loss import IGNORED, ChunkedLoss, OnLogits
from lora_backend.modeling.loss_check import verified_chunked_loss

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LossPath:
    """How a model's loss is computed. Made once for a model, before its first step."""

    takes_count: bool
    """Whether the model divides its summed loss by a count that it is given; else it takes the mean of each micro-batch."""
    chunked: ChunkedLoss | None = None
    """The loss in pieces; None: the model's own, from the logits of all tokens."""
    smoothing: float = 0.0
    """Share of the target's weight that goes to all words alike (transformers' `label_smoothing_factor`)."""
    noise_alpha: float = 0.0
    """Of the noise on embeddings while training (`embedding_noise`); 0: none."""

    @classmethod
    def of(
        cls, model: nn.Module, chunked: ChunkedLoss | None = None, *, smoothing: float = 0.0, noise_alpha: float = 0.0
    ) -> LossPath:
        if chunked is not None:
            chunked.smoothing = smoothing
        return cls(accepts_count(model), chunked, smoothing, noise_alpha)

    @classmethod
    def verified(
        cls, model: nn.Module, loss_type: str, precision: str, *, smoothing: float = 0.0, noise_alpha: float = 0.0
    ) -> LossPath:
        """The path that `loss_type` names, tried on a few tokens where it is in pieces.

        `auto` is in pieces where these add up to the model's own loss, else the model's own, said in the log. Raises
        `ModelError` where they do not and the config asks for them.
        """
        made = partial(cls.of, model, smoothing=smoothing, noise_alpha=noise_alpha)
        if loss_type == "nll":
            return made()
        try:
            with computing_in(precision, inputs_device(model)):
                path = made(verified_chunked_loss(model))
        except ModelError:
            if loss_type == "chunked_nll":
                raise
            causal: Any = model.get_base_model() if hasattr(model, "get_base_model") else model  # type: ignore[operator]
            logger.warning(
                "loss: from the logits of all tokens, which takes more memory and time; from those of answers only it"
                " would not be the loss that %s computes itself",
                type(causal).__name__,
            )
            return made()
        logger.info("loss: from the logits of answers only, a tile of them at a time")
        return path


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

    `batch`: input_ids, attention_mask and labels, all rows × tokens, on any device; or a flat one, of a single row of examples
    (`kernels/flat_inputs.py`), for a model within `flat_attention`. `model` is in training mode, with gradient checkpointing
    already on where it is wanted.
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
    model: nn.Module,
    batch: Mapping[str, Any],
    *,
    precision: str,
    loss_path: LossPath,
    num_items: int,
    on_logits: OnLogits | None = None,
) -> torch.Tensor:
    """The forward half of `micro_batch_step`, which an evaluation runs without gradients.

    There `num_items` is the batch's own count, so that the result is the batch's mean loss. `on_logits` sees the logits
    of all tokens that count, maybe in several calls.
    """
    device = inputs_device(model)
    inputs = {name: value.to(device) if isinstance(value, torch.Tensor) else value for name, value in batch.items()}
    if "lengths" in batch:
        inputs = flat_inputs(inputs)
    if loss_path.takes_count:
        inputs["num_items_in_batch"] = num_items
    in_pieces = loss_path.chunked.active(on_logits) if loss_path.chunked is not None else nullcontext()
    is_noisy = loss_path.noise_alpha > 0 and model.training
    noise = embedding_noise(model, batch, loss_path.noise_alpha) if is_noisy else nullcontext()
    with computing_in(precision, device), in_pieces, noise:
        if loss_path.smoothing and loss_path.chunked is None:
            return _smoothed(model, inputs, loss_path.smoothing, on_logits)
        outputs = model(**inputs, use_cache=False)
        if on_logits is not None and loss_path.chunked is None:
            _show_logits(outputs["logits"], inputs["labels"], on_logits)
        loss: torch.Tensor = outputs["loss"]
    return loss


def _show_logits(logits: torch.Tensor, labels: torch.Tensor, on_logits: OnLogits) -> None:
    """Token n predicts n + 1, the last of a row nothing, as transformers has it."""
    targets = labels[:, 1:].reshape(-1).to(logits.device)
    counts = targets != IGNORED
    on_logits(logits.detach()[:, :-1].reshape(-1, logits.shape[-1])[counts], targets[counts])


def _smoothed(
    model: nn.Module, inputs: dict[str, Any], smoothing: float, on_logits: OnLogits | None = None
) -> torch.Tensor:
    """The loss that transformers' Trainer computes with `label_smoothing_factor`: from the logits of all tokens, by its
    own function, and without what a model adds to its loss."""
    labels = inputs.pop("labels")
    outputs = model(**inputs, use_cache=False)
    count = inputs.get("num_items_in_batch")
    labels = labels.to(outputs["logits"].device)
    if on_logits is not None:
        _show_logits(outputs["logits"], labels, on_logits)
    loss: torch.Tensor = LabelSmoother(smoothing, IGNORED)(outputs, labels, shift_labels=True, num_items_in_batch=count)
    return loss


def inputs_device(model: nn.Module) -> torch.device:
    """Where inputs go: to the embedding; where that is shared out, to the GPU of this process, wherever its part waits."""
    embedding: nn.Module = model.get_input_embeddings()  # type: ignore[operator]  # transformers' and PEFT's models have it
    weight = next(embedding.parameters())
    if isinstance(weight, DTensor) and weight.device_mesh.device_type == "cuda":
        return torch.device("cuda", torch.cuda.current_device())
    return weight.device


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
