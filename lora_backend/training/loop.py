"""The training loop: batches into steps, each step into a better adapter, until the last or until it shall end."""

from __future__ import annotations

import logging
import math
import time
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from accelerate import Accelerator
from torch.utils.data import DataLoader
from transformers import TrainingArguments

from lora_backend.config.schema import TrainingConfig
from lora_backend.modeling.label_count import labels_that_count
from lora_backend.modeling.step import LossPath, micro_batch_loss, micro_batch_step
from lora_backend.modeling.step_memory import MEASURED_STEP
from lora_backend.training.batches import Batch, TrainBatches
from lora_backend.training.reporter import RunReporter, nan_loss
from lora_backend.training_state.checkpoint_write import save_checkpoint
from lora_backend.training_state.randomness import nothing_drawn
from lora_backend.training_state.state import TrainState

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Training:
    """What is trained on and how: nothing of it changes while training goes."""

    config: TrainingConfig
    precision: str
    loss_path: LossPath
    batches: TrainBatches
    eval_batches: DataLoader[Batch] | None
    accelerator: Accelerator
    arguments: TrainingArguments
    """For transformers' choice of an optimizer."""


def fit(training: Training, state: TrainState, reporter: RunReporter) -> None:
    """Train on from `state` until the last step, or until the run shall end before it; then a checkpoint is there.

    Raises `NanLossError` for a loss that is no number, `DiskFullError` where a checkpoint finds no room, `DataError` for
    a batch that is none.
    """
    batches, progress = training.batches, state.progress
    reporter.begins(progress.step, batches.total_steps)
    if progress.evaluation_pending:
        evaluate(training, state, reporter)
    state.mark_step_end()
    while progress.step < batches.total_steps and reporter.ended_by is None:
        epoch, first_batch = progress.epoch, progress.batch
        for window in batches.windows(epoch, first_batch):
            num_items = labels_that_count(state.model, [batch["labels"] for batch in window])
            for number, batch in enumerate(window, start=1):
                if len(window) > 1 and reporter.shall_end():
                    state.back_to_step_end()
                    save(training, state, reporter)
                    return
                is_measured = number == len(window) and _shall_measure(progress.step, training, reporter)
                with reporter.memory.around(state.model, state.optimizer, batch) if is_measured else nullcontext():
                    loss = micro_batch_step(
                        state.model,
                        batch,
                        precision=training.precision,
                        loss_path=training.loss_path,
                        num_items=num_items,
                        passes=len(window),
                        scaler=state.scaler,
                    )
                state.loss_sum = state.loss_sum.to(loss.device) + loss
                reporter.num_tokens += int(batch["attention_mask"].sum())
            gradient_norm, learning_rate = update(training, state)
            progress.advance(len(window), batches.per_epoch)
            epochs = progress.epochs_done(batches.per_epoch)
            reporter.step_done(progress.step, epochs)
            due = due_after_step(training, state, reporter)
            if due.point:
                mean_loss = state.take_mean_loss()
                reporter.trained(
                    progress.step, epochs, loss=mean_loss, learning_rate=learning_rate, grad_norm=gradient_norm
                )
            if due.evaluation:
                evaluate(training, state, reporter)
            if due.checkpoint or progress.evaluation_pending:
                save(training, state, reporter)
            if due.end or reporter.ended_by is not None:
                return
            state.mark_step_end()
        if progress.epoch == epoch:  # a stream has ended before the batches that it was expected to have
            if progress.batch == 0:
                logger.warning("no more batches come: training ends after step %s", progress.step)
                return
            progress.next_epoch()


def update(training: Training, state: TrainState) -> tuple[float, float]:
    """Clip, step, schedule. Returns the gradients' norm before they were clipped, and the step's learning rate."""
    state.scaler.unscale_(state.optimizer)
    limit = training.config.max_grad_norm or math.inf  # so that the norm is there without clipping too
    gradient_norm = training.accelerator.clip_grad_norm_(state.model.parameters(), limit)
    learning_rate, scale = state.schedule.get_last_lr()[0], state.scaler.get_scale()
    state.scaler.step(state.optimizer)
    state.scaler.update()
    if state.scaler.get_scale() >= scale:  # else the step was skipped, for gradients in fp16 had overflowed
        state.schedule.step()
    state.model.zero_grad()
    return float(gradient_norm), float(learning_rate)


@dataclass(frozen=True)
class Due:
    """What is to be done after a step, in this order."""

    point: bool
    evaluation: bool
    checkpoint: bool
    end: bool


def due_after_step(training: Training, state: TrainState, reporter: RunReporter) -> Due:
    """By the config's intervals, by what was asked for meanwhile, and at the last step."""
    config, step = training.config, state.progress.step
    is_last = step >= training.batches.total_steps
    evaluation = {
        "no": False,
        "steps": is_last or step % (config.eval_steps or config.logging_steps) == 0,
        "epoch": is_last or state.progress.batch == 0,
    }[config.eval_strategy]
    ends_early = not is_last and reporter.shall_end_after_step(step)
    if ends_early:
        state.progress.evaluation_pending, evaluation = evaluation, False
    return Due(
        point=step == 1 or step % config.logging_steps == 0,
        evaluation=evaluation,
        checkpoint=reporter.shall_save(step) or is_last or ends_early or step % config.save_steps == 0,
        end=is_last or ends_early,
    )


def evaluate(training: Training, state: TrainState, reporter: RunReporter) -> None:
    """The mean loss of the held-back rows; stays pending where the run shall end before all of them are through.

    Draws no random numbers that training would draw.
    """
    assert training.eval_batches is not None
    model, progress = state.model, state.progress
    progress.evaluation_pending = True
    losses: list[np.ndarray] = []
    model.eval()
    with nothing_drawn(), torch.no_grad():
        for batch in training.eval_batches:
            if reporter.shall_end():
                break
            num_items = labels_that_count(model, [batch["labels"]])
            loss = micro_batch_loss(
                model, batch, precision=training.precision, loss_path=training.loss_path, num_items=num_items
            )
            losses.append(np.full(len(batch["labels"]), loss.float().cpu().numpy()))  # each row counts alike
        else:
            progress.evaluation_pending = False
    model.train()
    if progress.evaluation_pending:
        return
    mean_loss = float(np.concatenate(losses).mean())
    if math.isfinite(mean_loss):
        progress.evaluations[progress.step] = mean_loss
    reporter.evaluated(progress.step, progress.epochs_done(training.batches.per_epoch), mean_loss)


def save(training: Training, state: TrainState, reporter: RunReporter) -> None:
    """Whole or not at all, and never one with a loss or weights that are no numbers."""
    step = state.progress.step
    if step == reporter.saved_step:
        return
    trained = (parameter for parameter in state.model.parameters() if parameter.requires_grad)
    if not torch.isfinite(state.loss_sum) or not all(bool(torch.isfinite(one).all()) for one in trained):
        raise nan_loss(step, reporter.saved_step)
    began = time.monotonic()
    save_checkpoint(reporter.folder, state, training.config)
    reporter.saved(step, time.monotonic() - began)


def _shall_measure(step: int, training: Training, reporter: RunReporter) -> bool:
    """The last pass of the step, beside the gradients of all others."""
    return reporter.memory.result is None and step >= min(MEASURED_STEP, training.batches.total_steps - 1)
