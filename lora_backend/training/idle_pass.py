"""A pass of a process that has no micro-batch left in a step, where the others need its part of the weights."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from peft import PeftModel

from lora_backend.modeling.step import LossPath, micro_batch_loss
from lora_backend.peers.sharding import sharers_of
from lora_backend.training.flat_batch import Batch, num_tokens_in
from lora_backend.training_state.randomness import nothing_drawn


def idle_pass(model: PeftModel, window: Sequence[Batch], num_items: int, precision: str, loss_path: LossPath) -> None:
    """Run the shortest batch of `window` so that it counts for nothing: gradients, in values, and random numbers stay as they
    are. Without gradients around it, no backward pass is run. Nothing to do where the model is whole."""
    if sharers_of(model).size == 1:
        return
    batch = min(window, key=num_tokens_in)
    with nothing_drawn():
        loss = micro_batch_loss(model, batch, precision=precision, loss_path=loss_path, num_items=num_items)
        if torch.is_grad_enabled():
            (0 * loss).backward()
