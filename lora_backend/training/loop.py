"""The training loop: batches into steps, each step into a better adapter, until the last or until it shall end."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass, field

import torch
from accelerate import Accelerator
from transformers import TrainingArguments

from lora_backend.config.schema import TrainingConfig
from lora_backend.modeling.label_count import labels_that_count
from lora_backend.modeling.step import LossPath, inputs_device, micro_batch_step
from lora_backend.modeling.step_memory import MEASURED_STEP
from lora_backend.peers.gradients import sum_gradients
from lora_backend.peers.peers import Alone, Peers
from lora_backend.peers.sharding import sharers_of
from lora_backend.training.batches import EvalBatches, TrainBatches
from lora_backend.training.batching import Batching
from lora_backend.training.evaluation_pass import evaluation_pass
from lora_backend.training.flat_batch import Batch, num_tokens_in
from lora_backend.training.idle_pass import idle_pass
from lora_backend.training.prefetch import on_device
from lora_backend.training.reporter import RunReporter, nan_loss
from lora_backend.training.samples import Sampler
from lora_backend.training_state.best_model import best_evaluation, stops_early
from lora_backend.training_state.checkpoint_write import save_checkpoint
from lora_backend.training_state.state import TrainState

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Training:
    """What is trained on and how: nothing of it changes while training goes."""

    config: TrainingConfig
    precision: str
    loss_path: LossPath
    batching: Batching
    batches: TrainBatches
    eval_batches: EvalBatches | None
    accelerator: Accelerator
    arguments: TrainingArguments
    """For transformers' choice of an optimizer."""
    sampler: Sampler | None = None
    """Asks the config's questions while it trains."""
    peers: Peers = field(default_factory=Alone)
    """The processes that train together. Each has the batches of all and runs its share of every step's."""


def fit(training: Training, state: TrainState, reporter: RunReporter) -> None:
    """Train on from `state` until the last step, or until the run shall end before it; then a checkpoint is there.

    Raises `NanLossError` for a loss that is no number, `DiskFullError` where a checkpoint finds no room, `DataError` for
    a batch that is none.
    """
    with training.batching.attention(state.model):
        _fit(training, state, reporter)


def _fit(training: Training, state: TrainState, reporter: RunReporter) -> None:
    batches, progress = training.batches, state.progress
    reporter.begins(progress.step, batches.total_steps, best_evaluation(progress, training.config).step)
    if progress.evaluation_pending:
        evaluate(training, state, reporter)
    if progress.sampling_pending:
        sample(training, state, reporter)
    if stops_early(progress, training.config):
        return
    state.mark_step_end()
    while progress.step < batches.total_steps and reporter.ended_by is None:
        epoch = progress.epoch
        with closing(batches.windows(epoch, progress.batch)) as windows:
            for window in windows:
                if not passes(training, state, reporter, window):
                    state.back_to_step_end()
                    save(training, state, reporter)
                    return
                gradient_norm, learning_rate = update(training, state)
                progress.advance(len(window), batches.num_in(epoch))
                epochs = progress.epochs_done(batches.num_in(epoch))
                reporter.step_done(progress.step, epochs)
                due = due_after_step(training, state, reporter)
                if due.point:
                    mean_loss = state.take_mean_loss()
                    reporter.trained(
                        progress.step, epochs, loss=mean_loss, learning_rate=learning_rate, grad_norm=gradient_norm
                    )
                if due.evaluation:
                    evaluate(training, state, reporter)
                if due.sample:
                    sample(training, state, reporter)
                stops = due.evaluation and stops_early(progress, training.config)
                if due.checkpoint or progress.is_something_pending or stops:
                    save(training, state, reporter)
                if due.end or stops or reporter.ended_by is not None:
                    return
                state.mark_step_end()
        if progress.epoch == epoch:  # a stream has ended before the batches that it was expected to have
            if progress.batch == 0:
                logger.warning("no more batches come: training ends after step %s", progress.step)
                return
            progress.next_epoch()


def passes(training: Training, state: TrainState, reporter: RunReporter, window: Sequence[Batch]) -> bool:
    """The passes of one optimizer step over its batches, which are dealt out in turn; then the gradients are there, of all
    of them. False where the run shall end before all passes are done."""
    peers, device = training.peers, inputs_device(state.model)
    num_items = labels_that_count(state.model, [batch["labels"] for batch in window])
    num_tokens = sum(num_tokens_in(batch) for batch in window)
    own = range(peers.rank, len(window), peers.size)
    batches = on_device([window[place] for place in own], device)
    losses = torch.zeros(len(window), device=device)
    measures = _shall_measure(len(window), training, state, reporter)
    for first_place in range(0, len(window), peers.size):
        if len(window) > peers.size and reporter.shall_end():
            return False
        place = first_place + peers.rank
        if place not in own:  # the last turn is not everybody's
            idle_pass(state.model, window, num_items, training.precision, training.loss_path)
            break
        batch, is_measured = next(batches), measures and place == own[-1]
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
        losses[place] = loss
    sum_gradients(state.trained, peers)
    state.add_losses(peers.summed(losses))
    reporter.num_tokens += num_tokens
    return True


def update(training: Training, state: TrainState) -> tuple[float, float]:
    """Clip, step, schedule. Returns the gradients' norm before they were clipped, and the step's learning rate."""
    state.scaler.unscale_(state.optimizer)
    limit = training.config.max_grad_norm or math.inf  # so that the norm is there without clipping too
    gradient_norm = training.accelerator.clip_grad_norm_(state.trained, limit)
    learning_rate, scale = state.schedule.get_last_lr()[0], state.scaler.get_scale()
    state.scaler.step(state.optimizer)
    state.scaler.update()
    if state.scaler.get_scale() >= scale:  # else the step was skipped, for gradients in fp16 had overflowed
        state.schedule.step()
    state.zero_grad()
    return float(gradient_norm), float(learning_rate)


@dataclass(frozen=True)
class Due:
    """What is to be done after a step, in this order."""

    point: bool
    evaluation: bool
    sample: bool
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
    is_of_config = is_last or step % config.save_steps == 0
    if evaluation and config.eval_strategy == "epoch" and config.load_best_model_at_end:
        is_of_config = True  # as `save_strategy: epoch`, without which transformers refuses it
    if is_of_config:
        state.progress.checkpoints.append(step)
    ends_early = not is_last and reporter.shall_end_after_step(step)
    sample = training.sampler is not None and training.sampler.is_due(step)
    if ends_early:
        state.progress.evaluation_pending, evaluation = evaluation, False
        state.progress.sampling_pending, sample = sample, False
    return Due(
        point=step == 1 or step % config.logging_steps == 0,
        evaluation=evaluation,
        sample=sample,
        checkpoint=reporter.shall_save(step) or ends_early or is_of_config,
        end=is_last or ends_early,
    )


def evaluate(training: Training, state: TrainState, reporter: RunReporter) -> None:
    """The held-back rows; stays pending where the run shall end before all of them are through."""
    assert training.eval_batches is not None
    progress = state.progress
    found = evaluation_pass(
        state.model,
        training.eval_batches,
        precision=training.precision,
        loss_path=training.loss_path,
        shall_stop=reporter.shall_end,
        peers=training.peers,
    )
    progress.evaluation_pending = found is None
    if found is None:
        return
    progress.evaluations[progress.step], progress.accuracies[progress.step] = found
    best = best_evaluation(progress, training.config)
    reporter.evaluated(progress.step, progress.epochs_done(training.batches.num_in(progress.epoch)), found, best)


def sample(training: Training, state: TrainState, reporter: RunReporter) -> None:
    """The adapter's answers as it is now, made by the first process, or by all where each has but a part of the weights; stay
    pending where the run shall end before the last of them."""
    progress, answers, peers = state.progress, None, training.peers
    is_shared = sharers_of(state.model).size > 1
    if training.sampler is not None:  # else it was pending, and the resumed run has no questions any more
        with reporter.time_out():
            if peers.is_first or is_shared:
                answers = training.sampler.answers(reporter.shall_end if is_shared else reporter.hears_of_end)
            answers = peers.agreed(answers)
            if answers is not None:
                reporter.sampled(progress.step, answers)
            else:
                reporter.shall_end()
    progress.sampling_pending = training.sampler is not None and answers is None


def save(training: Training, state: TrainState, reporter: RunReporter) -> None:
    """Whole or not at all, and never one with a loss or weights that are no numbers."""
    step = state.progress.step
    if step == reporter.saved_step:
        return
    if not torch.isfinite(state.loss_sum) or not all(bool(torch.isfinite(one).all()) for one in state.trained):
        raise nan_loss(step, reporter.saved_step)
    began = time.monotonic()
    save_checkpoint(reporter.folder, state, training.config, training.peers)
    reporter.saved(step, time.monotonic() - began)


def _shall_measure(num_passes: int, training: Training, state: TrainState, reporter: RunReporter) -> bool:
    """The last pass of the step, beside the gradients of all others; of several processes in a step in which all have one.
    Not of compiled code on a CPU: torch does not run it while tensors are counted, and the step would round differently."""
    if training.config.torch_compile and not torch.cuda.is_available():
        return False
    is_everybodys = num_passes >= min(training.peers.size, training.batches.accumulation)
    is_late_enough = state.progress.step >= min(MEASURED_STEP, training.batches.total_steps - 1)
    return reporter.memory.result is None and is_everybodys and is_late_enough
