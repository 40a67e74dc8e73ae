"""The longest batch first: one forward and backward before step 1, so that too little memory shows at once."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from lora_backend.errors import FlightdeckError
from lora_backend.i18n import Plural
from lora_backend.modeling.devices import memory_table
from lora_backend.modeling.trained_dtype import embedding_weights
from lora_backend.planning.cost.optimizers import sides_of, state_bytes
from lora_backend.training.randomness import nothing_drawn

if TYPE_CHECKING:
    from lora_backend.training.trainer import LoraTrainer

logger = logging.getLogger(__name__)


class OutOfMemoryError(FlightdeckError):
    """A batch needs more memory than there is."""

    code = "out_of_memory"


def longest_rows(lengths: Sequence[int], batch_size: int) -> list[int]:
    """Indices of the rows of the batch that needs most: the longest ones, padded to the length of the first."""
    return sorted(range(len(lengths)), key=lambda index: -lengths[index])[:batch_size]


def try_longest_batch(trainer: LoraTrainer, model: torch.nn.Module) -> None:
    """Train on the longest batch without an update; weights, gradients and random numbers are as before.

    What the first steps will hold beside it is there too: the optimizer's states, and the gradients of the passes
    before where they accumulate. Raises `OutOfMemoryError` with what to lower.
    """
    if trainer.caller_dataloader is not None:
        logger.info("the longest batch is not tried first: the rows of a DataLoader are not known beforehand")
        return
    dataset: Any = trainer.train_dataset
    lengths = [len(ids) for ids in dataset["input_ids"]]
    chosen = longest_rows(lengths, trainer.args.per_device_train_batch_size)
    tokens = max(lengths[index] for index in chosen)
    began = time.monotonic()
    buffers = {name: (buffer, buffer.detach().clone()) for name, buffer in model.named_buffers()}
    try:
        with nothing_drawn():
            held = _held_later(trainer, model)
            trainer.one_pass(model, trainer.data_collator([dataset[index] for index in chosen]))
            del held
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise OutOfMemoryError(
            Plural(
                "The longest batch does not fit into memory: {count} row of {tokens} tokens, tried before the first step. Lower `batch_size` (with `target_batch_size` as it is) or `max_length`, turn on `gradient_checkpointing`, or set `loss_type: chunked_nll`.",
                "The longest batch does not fit into memory: {count} rows of {tokens} tokens, tried before the first step. Lower `batch_size` (with `target_batch_size` as it is) or `max_length`, turn on `gradient_checkpointing`, or set `loss_type: chunked_nll`.",
            ),
            count=len(chosen),
            tokens=tokens,
        ) from error
    finally:
        model.zero_grad(set_to_none=True)
        with torch.no_grad():
            for buffer, value in buffers.values():
                buffer.copy_(value)
    logger.info("the longest batch fits: %s rows of %s tokens, %.1f s", len(chosen), tokens, time.monotonic() - began)
    for line in memory_table():
        logger.info("memory after the longest batch: %s", line)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a device, or the machine, had no memory left."""
    return isinstance(error, MemoryError | torch.cuda.OutOfMemoryError) or "can't allocate memory" in str(error)


def _held_later(trainer: LoraTrainer, model: torch.nn.Module) -> list[torch.Tensor]:
    """Room for what is not there before the first step; on a GPU it is taken for real."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if trainer.args.gradient_accumulation_steps > 1:
        for parameter in trained:
            parameter.grad = torch.zeros_like(parameter)
    if trainer.optimizer is not None and any(trainer.optimizer.state.values()):  # a resumed run has its states
        return []
    optim, tables = str(getattr(trainer.args.optim, "value", trainer.args.optim)), embedding_weights(model)
    return [
        torch.empty(
            state_bytes(
                optim, one.numel(), one.element_size(), is_embedding=id(one) in tables, sides=sides_of(one.shape)
            ),
            dtype=torch.uint8,
            device=one.device,
        )
        for one in trained
    ]
