"""The optimizer and its schedule as transformers' Trainer makes them, by transformers' own public parts."""

from __future__ import annotations

import math
from typing import Any

import torch
from peft import PeftModel
from torch import nn
from torch.optim.lr_scheduler import LambdaLR
from transformers import Trainer, TrainingArguments, get_scheduler
from transformers.trainer_pt_utils import get_parameter_names

from lora_backend.config.schema import TrainingConfig
from lora_backend.errors import ConfigError, first_line
from lora_backend.i18n import N_
from lora_backend.planning.cost.optimizers import EIGHT_BIT

WITHOUT_DECAY = (r"bias", r"layernorm", r"rmsnorm", r"(?:^|\.)norm(?:$|\.)", r"_norm(?:$|\.)")
"""Parameters that weight decay leaves alone, by their names (transformers, `Trainer.get_decay_parameter_names`)."""


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
