"""Put together what the loop trains: the model made ready, its batches, its optimizer and schedule."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator, DataLoaderConfiguration
from peft import PeftModel
from torch import nn
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
from transformers.trainer_pt_utils import get_parameter_names
from transformers.trainer_utils import align_special_tokens, validate_quantization_for_training

from lora_backend.config.schema import TrainingConfig
from lora_backend.errors import ConfigError, first_line
from lora_backend.i18n import N_
from lora_backend.modeling.checkpointing import checkpoint_activations
from lora_backend.modeling.step import LossPath, inputs_device
from lora_backend.planning.cost.optimizers import EIGHT_BIT
from lora_backend.tokens.epoch_order import EpochOrder
from lora_backend.training.batches import TrainBatches, eval_batches
from lora_backend.training.loop import Training
from lora_backend.training.worst_case import longest_batch, try_batch
from lora_backend.training_state.state import TrainState

logger = logging.getLogger(__name__)
WITHOUT_DECAY = (r"bias", r"layernorm", r"rmsnorm", r"(?:^|\.)norm(?:$|\.)", r"_norm(?:$|\.)")
"""Parameters that weight decay leaves alone, by their names (transformers, `Trainer.get_decay_parameter_names`)."""


@dataclass(frozen=True)
class Data:
    """Where batches come from: tokenized rows, or a caller's own DataLoader in the place of training rows."""

    train_rows: Any = None
    eval_rows: Any = None
    tokenizer: PreTrainedTokenizerBase | None = None
    loader: DataLoader[Any] | None = None
    order: EpochOrder | None = None
    """Which of the rows an epoch takes; None: all of them."""

    @property
    def collator(self) -> DataCollatorForSeq2Seq:
        return DataCollatorForSeq2Seq(self.tokenizer)


def assemble(model: PeftModel, config: TrainingConfig, precision: str, data: Data) -> Training:
    """Raises `ConfigError` where batches or config do not go together, `ModelError` where the model's loss cannot be
    computed as `loss_type` says, or its activations not be checkpointed."""
    set_seed(config.seed)
    if config.eval_strategy != "no" and data.eval_rows is None:
        raise ConfigError(
            N_(
                "There are no rows to evaluate: `val_size` holds none back of a DataLoader. Name an `eval_dataset`, or set `eval_strategy` to `no`."
            )
        )
    _refuse_quantized(model)
    arguments = arguments_of(config)
    accelerator = _accelerator(model, config)
    if data.loader is not None:
        batches = TrainBatches.of_caller(data.loader, config, accelerator)
    else:
        order = data.order or EpochOrder.of_all(len(data.train_rows), config.seed)
        batches = TrainBatches.of_rows(data.train_rows, order, data.collator, config)
    if data.tokenizer is not None:
        align_special_tokens(model, data.tokenizer)
    model.config.use_cache = False
    loss_path = LossPath.verified(model, config.loss_type, precision)
    if config.gradient_checkpointing:
        checkpoint_activations(model)
    model.train()
    held_back = eval_batches(data.eval_rows, data.collator, batches.batch_size) if data.eval_rows is not None else None
    return Training(config, precision, loss_path, batches, held_back, accelerator, arguments)


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
        raise ConfigError(N_("transformers does not take the config: {reason}"), reason=reason) from error
    decaying = set(get_parameter_names(model, [nn.LayerNorm], list(WITHOUT_DECAY)))
    groups: tuple[list[nn.Parameter], list[nn.Parameter]] = [], []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            groups[name not in decaying].append(parameter)
    if config.optim in EIGHT_BIT:
        _keep_tables_in_32_bits(model)
    decays = zip(groups, (config.weight_decay, 0.0), strict=True)
    return cls([{"params": group, "weight_decay": decay} for group, decay in decays], **options)  # type: ignore[no-any-return]


def _keep_tables_in_32_bits(model: nn.Module) -> None:
    """As transformers does. For this model alone: bitsandbytes remembers for the whole process, and by position, which
    tensors of an earlier model keep their states in 32 bits."""
    from bitsandbytes.optim import optimizer  # takes a second, and most runs do without

    manager: Any = optimizer.GlobalOptimManager.get_instance()  # type: ignore[no-untyped-call]
    manager.initialize()
    for module in model.modules():
        if isinstance(module, nn.Embedding):
            manager.register_module_override(module, "weight", {"optim_bits": 32})


def make_schedule(config: TrainingConfig, optimizer: torch.optim.Optimizer, total_steps: int) -> LambdaLR:
    """The learning rate of every step."""
    warmup = warmup_steps(config, total_steps)
    schedule: LambdaLR = get_scheduler(config.lr_scheduler_type, optimizer, warmup, total_steps)
    return schedule


def warmup_steps(config: TrainingConfig, total_steps: int) -> int:
    """At most all steps but the last, so that the rate comes to what the config says; a polynomial fall divides by the
    steps that are left."""
    return min(math.ceil(config.warmup_ratio * total_steps), max(total_steps - 1, 0))


def try_longest_batch(training: Training, state: TrainState, data: Data) -> None:
    """Raises `OutOfMemoryError` where it does not fit."""
    if data.loader is not None:
        logger.info("the longest batch is not tried first: the rows of a DataLoader are not known beforehand")
        return
    batch = longest_batch(data.train_rows, data.collator, training.batches.batch_size)
    optim, passes = training.config.optim, training.batches.accumulation
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
        raise ConfigError(N_("transformers does not take the config: {reason}"), reason=reason) from error
