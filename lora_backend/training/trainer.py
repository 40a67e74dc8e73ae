"""transformers' Trainer, with what a LoRA run here needs beyond it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from accelerate import PartialState
from torch import nn
from torch.utils.data import DataLoader
from transformers import TrainingArguments

from lora_backend.config.schema import TrainingConfig
from lora_backend.errors import DataError
from lora_backend.i18n import N_
from lora_backend.modeling.label_count import labels_that_count
from lora_backend.modeling.step import LossPath, micro_batch_loss
from lora_backend.planning.cost.optimizers import EIGHT_BIT
from lora_backend.runs.record.run_folder import RunFolder
from lora_backend.training.callbacks import RunCallback
from lora_backend.training.exact import ExactTrainer, LeaveStepError
from lora_backend.training.measure import MEASURED_STEP
from lora_backend.training.worst_case import try_longest_batch

BATCH_KEYS = ("input_ids", "attention_mask", "labels")


@dataclass
class LoraArguments(TrainingArguments):
    """transformers' arguments, and TRL's word for how the loss is computed."""

    loss_type: str = "nll"
    precision: str = "fp32"
    """What the step computes in."""
    inputs_device: str | None = None
    """Where batches go; None: to the first device, as transformers has it."""

    @cached_property
    def device(self) -> torch.device:
        """transformers' own, or `inputs_device` for it and for accelerate, which puts batches on its device and takes
        a model in 4 bits on no other."""
        found = super().device
        if self.inputs_device is None:
            return found
        chosen = torch.device(self.inputs_device)
        PartialState().device = chosen
        if torch.cuda.is_available() and chosen.type == "cuda":
            torch.cuda.set_device(chosen)
        return chosen

    def get_warmup_steps(self, num_training_steps: int) -> int:
        """At most all steps but the last, so that the rate comes to what the config says; a polynomial fall divides by
        the steps that are left."""
        return min(super().get_warmup_steps(num_training_steps), max(num_training_steps - 1, 0))


def training_arguments(
    config: TrainingConfig,
    folder: RunFolder,
    precision: str,
    batch_size: int | None = None,
    inputs_device: str | None = None,
) -> LoraArguments:
    """The config in transformers' words. `batch_size`: of a caller's own DataLoader, in rows."""
    per_device = batch_size or config.batch_size
    arguments = LoraArguments(
        loss_type=config.loss_type,
        precision=precision,
        inputs_device=inputs_device,
        output_dir=str(folder.checkpoints),
        num_train_epochs=config.num_epochs,
        max_steps=config.max_steps or -1,
        learning_rate=config.learning_rate,
        lr_scheduler_type=config.lr_scheduler_type,
        warmup_steps=config.warmup_ratio,  # below 1 it counts as a share of all steps
        weight_decay=config.weight_decay,
        optim=config.optim,
        max_grad_norm=config.max_grad_norm,
        per_device_train_batch_size=per_device,
        per_device_eval_batch_size=per_device,
        gradient_accumulation_steps=accumulation_steps(config, per_device),
        activation_checkpointing=config.gradient_checkpointing,  # the new name of the same thing
        activation_checkpointing_kwargs={"use_reentrant": False},
        fp16=precision == "fp16",  # for its scaler
        use_cpu=not torch.cuda.is_available(),
        eval_strategy=config.eval_strategy,
        eval_steps=config.eval_steps,
        save_strategy="steps",
        save_steps=config.save_steps,
        save_total_limit=config.save_total_limit,
        logging_steps=config.logging_steps,
        logging_first_step=True,
        logging_nan_inf_filter=False,  # a NaN loss must be seen
        label_names=["labels"],  # PEFT's forward hides them from the Trainer
        remove_unused_columns=False,
        report_to="none",
        disable_tqdm=True,
        seed=config.seed,
        data_seed=config.seed,
        dataloader_pin_memory=torch.cuda.is_available(),
    )
    # One process drives the devices that the model was placed on; with several visible GPUs the Trainer would
    # otherwise wrap it in DataParallel.
    arguments._n_gpu = min(arguments.n_gpu, 1)
    return arguments


def accumulation_steps(config: TrainingConfig, batch_size: int) -> int:
    """Forward passes per optimizer step, so that `target_batch_size` rows go into each."""
    return max((config.target_batch_size or batch_size) // batch_size, 1)


class LoraTrainer(ExactTrainer):
    """Counts tokens, takes a caller's own DataLoader, tries the longest batch first, and computes the loss in pieces
    where that is asked for."""

    def __init__(
        self, *args: Any, run_callback: RunCallback, dataloader: DataLoader[Any] | None = None, **kwargs: Any
    ) -> None:
        self.caller_dataloader = dataloader
        self.loss_path: LossPath | None = None
        self.memory = run_callback.memory
        super().__init__(*args, run_callback=run_callback, **kwargs)

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """Raises `ModelError` where the model's loss cannot be computed as `loss_type` says, `OutOfMemoryError` where
        the longest batch does not fit."""
        self.loss_path = LossPath.verified(self.model, self.args.loss_type, self.args.precision)
        return super().train(*args, **kwargs)

    def create_optimizer(self, *args: Any, **kwargs: Any) -> torch.optim.Optimizer:
        """transformers' own, for this model alone: bitsandbytes remembers for the whole process, and by position, which
        tensors of an earlier model keep their states in 32 bits."""
        if self.args.optim in EIGHT_BIT:
            from bitsandbytes.optim import optimizer  # takes a second, and most runs do without

            manager: Any = optimizer.GlobalOptimManager
            manager.get_instance().initialize()
        return super().create_optimizer(*args, **kwargs)

    def _prepare_for_training(self, *args: Any) -> Any:
        found = super()._prepare_for_training(*args)
        self.folder.write_status(stage="first_step")
        try_longest_batch(self, found[0])
        return found

    def compute_loss(
        self, model: nn.Module, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """By the forward pass that the plan is made of; for training and evaluation alike."""
        assert self.loss_path is not None
        count = labels_that_count(self.model, [inputs["labels"]]) if num_items_in_batch is None else num_items_in_batch
        loss = micro_batch_loss(
            model, inputs, precision=self.args.precision, loss_path=self.loss_path, num_items=int(count)
        ).to(self.args.device)
        return (loss, {}) if return_outputs else loss

    def get_train_dataloader(self) -> DataLoader[Any]:
        """The caller's own, where one was given."""
        if self.caller_dataloader is None:
            return super().get_train_dataloader()
        return self.accelerator.prepare(self.caller_dataloader)

    def training_step(self, model: nn.Module, inputs: Any, num_items_in_batch: Any = None) -> torch.Tensor:
        """One forward and backward; refuses a batch that is not what a causal model trains on."""
        missing = [
            key
            for key in BATCH_KEYS
            if not isinstance(inputs, Mapping) or not isinstance(inputs.get(key), torch.Tensor)
        ]
        if missing:
            raise DataError(
                N_(
                    "A batch of the DataLoader lacks {keys}. Each must be a dict of input_ids, attention_mask and labels, all tensors."
                ),
                keys=", ".join(missing),
            )
        if self.current_gradient_accumulation_steps > 1 and self.run_callback.shall_end():
            raise LeaveStepError
        self.run_callback.num_tokens += int(inputs["attention_mask"].sum())
        is_last_pass = self.accelerator.sync_gradients  # beside the gradients of all others
        measured_step = min(MEASURED_STEP, self.state.max_steps - 1)
        if self.memory.result is None and is_last_pass and self.state.global_step >= measured_step:
            with self.memory.around(self.model, self.optimizer, inputs):
                return super().training_step(model, inputs, num_items_in_batch)
        return super().training_step(model, inputs, num_items_in_batch)

    def one_pass(self, model: nn.Module, inputs: Any) -> None:
        """A forward and backward that belongs to no step."""
        self.current_gradient_accumulation_steps = 1
        super().training_step(model, inputs)
