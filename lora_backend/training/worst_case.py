"""The longest batch first: one forward and backward before step 1, so that too little memory shows at once."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

import torch

from lora_backend.i18n import Plural
from lora_backend.modeling.devices import memory_table
from lora_backend.modeling.label_count import labels_that_count
from lora_backend.modeling.out_of_memory import OutOfMemoryError, is_out_of_memory
from lora_backend.modeling.step import LossPath, micro_batch_step
from lora_backend.modeling.trained_dtype import embedding_weights
from lora_backend.planning.cost.optimizers import sides_of, state_bytes
from lora_backend.tokens.token_rows import TokenRows
from lora_backend.training.batches import OwnBatches
from lora_backend.training.epoch_batches import LineBatches
from lora_backend.training.flat_batch import Batch, is_flat, num_rows_in
from lora_backend.training_state.randomness import nothing_drawn
from lora_backend.training_state.state import TrainState

logger = logging.getLogger(__name__)
TOO_LONG = Plural(
    "The longest batch does not fit into memory: {count} row of {tokens} tokens, tried before the first step. Lower `batch_size` (with `target_batch_size` as it is) or `max_length`, turn on `gradient_checkpointing`, or set `loss_type: chunked_nll`.",
    "The longest batch does not fit into memory: {count} rows of {tokens} tokens, tried before the first step. Lower `batch_size` (with `target_batch_size` as it is) or `max_length`, turn on `gradient_checkpointing`, or set `loss_type: chunked_nll`.",
)
TOO_LONG_FLAT = Plural(
    "The longest batch does not fit into memory: {count} row, {tokens} tokens in all, tried before the first step. Lower `batch_size` (with `target_batch_size` as it is) or `max_length`, turn on `gradient_checkpointing`, or set `loss_type: chunked_nll`.",
    "The longest batch does not fit into memory: {count} rows, {tokens} tokens in all, tried before the first step. Lower `batch_size` (with `target_batch_size` as it is) or `max_length`, turn on `gradient_checkpointing`, or set `loss_type: chunked_nll`.",
)


def longest_batch(batches: OwnBatches) -> Batch:
    """Of all batches that may come, the one that needs most: of the longest rows, or of the fullest lines."""
    rows = batches.rows
    if isinstance(batches.epochs, LineBatches):
        chosen = batches.epochs.fullest()
    elif isinstance(rows, TokenRows):
        chosen = rows.longest(batches.batch_size)
        if rows.is_lazy:
            logger.info(
                "the longest batch is of the rows with the most bytes: a set of this size is labelled as training goes"
            )
    else:
        chosen = longest_rows([len(ids) for ids in rows["input_ids"]], batches.batch_size)
    return batches.batch_of(chosen)


def longest_rows(lengths: Sequence[int], batch_size: int) -> list[int]:
    """Numbers of the longest rows."""
    return sorted(range(len(lengths)), key=lambda index: -lengths[index])[:batch_size]


def try_batch(state: TrainState, batch: Batch, precision: str, loss_path: LossPath, *, optim: str, passes: int) -> None:
    """Train on the batch without an update; weights, gradients and random numbers are as before.

    What the first steps will hold beside it is there too: the optimizer's states, and the gradients of the passes
    before where they accumulate. Raises `OutOfMemoryError` with what to lower.
    """
    model, began = state.model, time.monotonic()
    rows, tokens = num_rows_in(batch), batch["input_ids"].shape[1]
    buffers = {name: (buffer, buffer.detach().clone()) for name, buffer in model.named_buffers()}
    try:
        with nothing_drawn():
            held = _held_later(state, optim, passes)
            num_items = labels_that_count(model, [batch["labels"]])
            micro_batch_step(
                model, batch, precision=precision, loss_path=loss_path, num_items=num_items, scaler=state.scaler
            )
            del held
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        sentence = TOO_LONG_FLAT if is_flat(batch) else TOO_LONG
        raise OutOfMemoryError(sentence, count=rows, tokens=tokens) from error
    finally:
        model.zero_grad(set_to_none=True)
        with torch.no_grad():
            for buffer, value in buffers.values():
                buffer.copy_(value)
    said = "%s rows, %s tokens in all" if is_flat(batch) else "%s rows of %s tokens"
    logger.info(f"the longest batch fits: {said}, %.1f s", rows, tokens, time.monotonic() - began)
    for line in memory_table():
        logger.info("memory after the longest batch: %s", line)


def _held_later(state: TrainState, optim: str, passes: int) -> list[torch.Tensor]:
    """Room for what is not there before the first step; on a GPU it is taken for real."""
    trained = state.trained
    if passes > 1:
        for parameter in trained:
            parameter.grad = torch.zeros_like(parameter)
    if any(state.optimizer.state.values()):  # a resumed run has its states
        return []
    tables = embedding_weights(state.model)
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
