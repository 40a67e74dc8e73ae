"""Put together what the loop trains: the model made ready, its batches, its optimizer and schedule."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator, DataLoaderConfiguration
from peft import PeftModel
from torch.amp.grad_scaler import GradScaler
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader
from transformers import (
    DataCollatorForSeq2Seq,
    PreTrainedTokenizerBase,
    Trainer,
    TrainingArguments,
    get_scheduler,
    set_seed,
)
from transformers.trainer_utils import align_special_tokens, validate_quantization_for_training

from lora_backend.config.schema import TrainingConfig
from lora_backend.errors import ConfigError, first_line
from lora_backend.i18n import N_
from lora_backend.kernels.fused_lora import use_fused_lora
from lora_backend.modeling.checkpointing import checkpoint_activations
from lora_backend.modeling.compiled_parts import compile_parts
from lora_backend.modeling.step import LossPath, inputs_device
from lora_backend.peers.peers import Alone, Peers
from lora_backend.planning.cost.optimizers import EIGHT_BIT
from lora_backend.tokens.epoch_order import EpochOrder
from lora_backend.training.batches import CallersBatches, EvalBatches, OwnBatches, TrainBatches
from lora_backend.training.batching import Batching
from lora_backend.training.loop import Training
from lora_backend.training.parameter_groups import keep_tables_in_32_bits, parameter_groups, why_not_fused
from lora_backend.training.samples import Sampler
from lora_backend.training.worst_case import longest_batch, try_batch
from lora_backend.training_state.randomness import nothing_drawn, seed_of
from lora_backend.training_state.state import TrainState

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Data:
    """Where batches come from: tokenized rows, or a caller's own DataLoader in the place of training rows."""

    train_rows: Any = None
    eval_rows: Any = None
    tokenizer: PreTrainedTokenizerBase | None = None
    loader: DataLoader[Any] | None = None
    order: EpochOrder | None = None
    """Which of the rows an epoch takes; None: all of them."""
    questions: Sequence[dict[str, Any]] = ()
    """Of the config, for samples while it trains."""

    @property
    def padded(self) -> DataCollatorForSeq2Seq:
        """Rows into a batch, all as long as the longest."""
        return DataCollatorForSeq2Seq(self.tokenizer)


def assemble(
    model: PeftModel, config: TrainingConfig, precision: str, data: Data, peers: Peers | None = None
) -> Training:
    """`peers`: the processes that train together; None: this one alone.

    Raises `ConfigError` where batches or config do not go together, `ModelError` where the model cannot take rows as
    `batching` says, its loss cannot be computed as `loss_type` says, or its activations not be checkpointed."""
    peers = peers or Alone()
    set_seed(seed_of(config.seed, peers.rank))  # the adapter is attached: what is drawn now is dropout and noise
    if config.eval_strategy != "no" and data.eval_rows is None:
        raise ConfigError(
            N_(
                "There are no rows to evaluate: `val_size` cannot hold out rows of a DataLoader. Name an `eval_dataset`, or set `eval_strategy` to `no`."
            )
        )
    _refuse_quantized(model)
    arguments = arguments_of(config)
    accelerator = _accelerator(model, config)
    if data.tokenizer is not None:
        align_special_tokens(model, data.tokenizer)
    model.config.use_cache = False
    if config.fused_lora:
        logger.info("%s", use_fused_lora(model))
    batching = Batching.of(model, config, precision, of_caller=data.loader is not None)
    batches, held_back = _batches_of(data, batching, config, accelerator)
    loss_path = LossPath.verified(
        model,
        config.loss_type,
        precision,
        smoothing=config.label_smoothing_factor,
        noise_alpha=config.neftune_noise_alpha or 0.0,
    )
    if config.gradient_checkpointing:
        checkpoint_activations(model)
    model.train()
    if config.torch_compile:
        with nothing_drawn():
            compile_parts(model, precision)
    sampler = None
    if config.sample_every_steps and data.questions and data.tokenizer is not None:
        sampler = Sampler(model, data.tokenizer, data.questions, config.sample_every_steps)
    return Training(config, precision, loss_path, batching, batches, held_back, accelerator, arguments, sampler, peers)


def _batches_of(
    data: Data, batching: Batching, config: TrainingConfig, accelerator: Accelerator
) -> tuple[TrainBatches, EvalBatches | None]:
    """Those that are trained on, and those that are evaluated, which are made in the same way."""
    batches: TrainBatches
    if data.loader is not None:
        batches = CallersBatches(data.loader, config, accelerator)
    else:
        order = data.order or EpochOrder.of_all(len(data.train_rows), config.seed)
        batches = batching.batches_of(data.train_rows, order, data.padded, config)
    batching.log(batches)
    if data.eval_rows is None:
        return batches, None
    return batches, EvalBatches(data.eval_rows, batching.collate(data.padded), batches.batch_size)


def fresh_state(model: PeftModel, training: Training) -> TrainState:
    """Before the first step. Raises `ConfigError` where the optimizer cannot be made."""
    config, accelerator = training.config, training.accelerator
    optimizer = accelerator.prepare(make_optimizer(model, config, training.arguments))
    schedule = make_schedule(config, optimizer, training.batches.total_steps)
    return TrainState(model, optimizer, schedule, GradScaler(enabled=training.precision == "fp16"))


def arguments_of(config: TrainingConfig) -> TrainingArguments:
    """What transformers needs to know to choose an optimizer. Made before the `Accelerator`: it settles the device, and
    makes accelerate forget what it was set to before in this process."""
    return TrainingArguments(
        optim=config.optim, learning_rate=config.learning_rate, use_cpu=not torch.cuda.is_available(), report_to="none"
    )


def make_optimizer(model: PeftModel, config: TrainingConfig, arguments: TrainingArguments) -> torch.optim.Optimizer:
    """Raises `ConfigError` where transformers cannot make it, as where a package is not installed."""
    try:
        cls, options = Trainer.get_optimizer_cls_and_kwargs(arguments, model)
    except (ValueError, ImportError) as error:
        reason = first_line(error)
        raise ConfigError(N_("transformers rejects the config: {reason}"), reason=reason) from error
    groups = parameter_groups(model, config)
    if options.get("fused") and (lacking := why_not_fused([p for group in groups for p in group["params"]])):
        logger.warning("optimizer: `adamw_torch`, in several kernels, for torch has no fused one here: %s", lacking)
        del options["fused"]
    if config.optim in EIGHT_BIT:
        keep_tables_in_32_bits(model)
    return cls(groups, **options)  # type: ignore[no-any-return]


def make_schedule(config: TrainingConfig, optimizer: torch.optim.Optimizer, total_steps: int) -> LambdaLR:
    """The learning rate of every step."""
    warmup = warmup_steps(config, total_steps)
    schedule: LambdaLR = get_scheduler(config.lr_scheduler_type, optimizer, warmup, total_steps)
    return schedule


def warmup_steps(config: TrainingConfig, total_steps: int) -> int:
    """At most all steps but the last, so that the rate comes to what the config says; a polynomial fall divides by the
    steps that are left."""
    return min(math.ceil(config.warmup_ratio * total_steps), max(total_steps - 1, 0))


def try_longest_batch(training: Training, state: TrainState) -> None:
    """Raises `OutOfMemoryError` where it does not fit."""
    if not isinstance(training.batches, OwnBatches):
        logger.info("the longest batch is not tried first: the rows of a DataLoader are not known beforehand")
        return
    batch = longest_batch(training.batches)
    optim, passes = training.config.optim, training.batches.accumulation
    with training.batching.attention(state.model):
        try_batch(state, batch, training.precision, training.loss_path, optim=optim, passes=passes)


def _accelerator(model: PeftModel, config: TrainingConfig) -> Accelerator:
    """Its part is devices and clipping: the step casts, and puts batches where they belong."""
    loading = DataLoaderConfiguration(use_seedable_sampler=True, data_seed=config.seed)
    accelerator = Accelerator(mixed_precision="no", device_placement=False, dataloader_config=loading)
    device = inputs_device(model)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    return accelerator


def _refuse_quantized(model: PeftModel) -> None:
    try:
        validate_quantization_for_training(model)
    except ValueError as error:
        reason = first_line(error)
        raise ConfigError(N_("transformers rejects the config: {reason}"), reason=reason) from error
