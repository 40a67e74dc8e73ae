"""transformers' Trainer, made exact: whole checkpoints, a bit-identical resume, a stop that does not wait for long."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PrinterCallback, Trainer

from lora_backend.config.schema import TrainingConfig
from lora_backend.errors import DiskFullError, FlightdeckError, RunError
from lora_backend.i18n import N_
from lora_backend.training.callbacks import RunCallback, nan_loss
from lora_backend.training.checkpoints import Progress, is_disk_full, save_whole
from lora_backend.training.randomness import RandomState, nothing_drawn
from lora_backend.training.resume import Resume, check_loadable, check_loaded
from lora_backend.training.worst_case import is_out_of_memory

logger = logging.getLogger(__name__)


class LeaveStepError(Exception):
    """The run shall end before this step is through: its passes are given up."""


class LeaveEvaluationError(Exception):
    """The run shall end before this evaluation is through; it is made up for on resume."""


class ExactTrainer(Trainer):
    """Ends where it is told to, saves whole checkpoints, and goes on from one as if nothing had happened."""

    _globalstep_last_logged: int

    def __init__(
        self,
        *args: Any,
        run_callback: RunCallback,
        resume: Resume | None = None,
        config: TrainingConfig | None = None,
        after_load: Callable[[Path], None] | None = None,
        **kwargs: Any,
    ) -> None:
        self.run_callback = run_callback
        self.folder = run_callback.folder
        self.resume = resume
        self.evaluation_pending = resume is not None and resume.progress.evaluation_pending
        self._config = config.model_dump() if config else {}
        self._after_load = after_load
        self._aside: Path | None = None
        self._saved_step = resume.step if resume else 0
        self._at_step_end: tuple[RandomState, torch.Tensor] | None = None
        super().__init__(*args, callbacks=[run_callback], **kwargs)
        self.remove_callback(PrinterCallback)  # stdout is for one JSON document

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """From the checkpoint of `resume`, else from the start. Raises `RunError` where its adapter is not this one."""
        if self.resume is not None:
            check_loadable(self.model, self.resume.path)
            self.args.eval_on_start = self.evaluation_pending
            kwargs["resume_from_checkpoint"] = str(self.resume.path)
        return super().train(*args, **kwargs)

    @property
    def ended_early(self) -> bool:
        """Whether something of what was asked for is still to be done."""
        return self.run_callback.ended_by is not None and (
            self.state.global_step < self.state.max_steps or self.evaluation_pending
        )

    # ------------------------------------------------------------------------------------ going on exactly

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        with self._fitting("adapter_model.safetensors"):
            super()._load_from_checkpoint(resume_from_checkpoint, model)
        check_loaded(self.model, Path(resume_from_checkpoint))
        if self._after_load is not None:
            self._after_load(Path(resume_from_checkpoint))

    def _init_training_state(self, max_steps: int, *args: Any) -> tuple[int, int]:
        found = super()._init_training_state(max_steps, *args)
        self.state.compute_steps(self.args, max_steps)  # the checkpoint's would win over what the config says now
        return found

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        """The checkpoint's, with what the config says now where that was changed."""
        asked = [(group["lr"], group["weight_decay"]) for group in self.optimizer.param_groups] if checkpoint else []
        fresh = self.lr_scheduler.state_dict() if checkpoint else {}
        with self._fitting("optimizer.pt or scheduler.pt"):
            super()._load_optimizer_and_scheduler(checkpoint)
        for group, (_, weight_decay) in zip(self.optimizer.param_groups, asked, strict=False):
            group["weight_decay"] = weight_decay
        if self.resume is not None and self.resume.restarts_schedule:
            scheduler, step = self.lr_scheduler, self.resume.step
            rates = [self.args.learning_rate * factor(step) for factor in scheduler.lr_lambdas]
            scheduler.load_state_dict(fresh | {"last_epoch": step, "_step_count": step + 1, "_last_lr": rates})
            for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
                group["lr"], group["initial_lr"] = rate, self.args.learning_rate
            logger.info("the learning rate's schedule is computed anew from step %s on: %s", step, rates[0])

    @contextmanager
    def _fitting(self, name: str) -> Iterator[None]:
        """Say in a sentence that a file of the checkpoint, which could be opened, is not one of this run."""
        try:
            yield
        except (ValueError, TypeError, KeyError, AttributeError, RuntimeError, IndexError) as error:
            if self.resume is None or isinstance(error, FlightdeckError) or is_out_of_memory(error):
                raise
            raise RunError(
                N_("{file} of {checkpoint} does not fit the run, so nothing was trained. Remove {checkpoint} and resume."),
                file=name,
                checkpoint=self.resume.path.name,
            ) from error  # fmt: skip

    def _run_epoch(self, model: nn.Module, **kwargs: Any) -> None:  # type: ignore[override]  # called by name
        if self.resume is not None and self._globalstep_last_logged == self.resume.step == self.state.global_step:
            self._tr_loss.fill_(self.resume.progress.loss_sum)
            self._total_loss_scalar = self.resume.progress.total_loss
            self._globalstep_last_logged = self.resume.progress.last_logged_step
        if self.state.global_step >= self.state.max_steps or self.run_callback.ended_by is not None:
            self.control.should_training_stop = True  # the checkpoint was the last one
            return
        try:
            super()._run_epoch(model=model, **kwargs)
        except LeaveStepError:
            self._back_to_step_end(model)

    def _maybe_log_save_evaluate(self, *args: Any, **kwargs: Any) -> None:
        super()._maybe_log_save_evaluate(*args, **kwargs)
        if self.args.gradient_accumulation_steps > 1:
            self._at_step_end = (RandomState.now(), self._tr_loss.clone())

    def _back_to_step_end(self, model: nn.Module) -> None:
        """As if the step that was given up had not begun; then save."""
        model.zero_grad()
        self.control.should_training_stop = True
        if self._at_step_end is not None:
            random_state, loss_sum = self._at_step_end
            random_state.restore()
            self._tr_loss.copy_(loss_sum)
            self._save_checkpoint(model, None)

    def _evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Draws no random numbers that training would draw; ends early where the run shall end."""
        try:
            with nothing_drawn():
                metrics: dict[str, float] = super()._evaluate(*args, **kwargs)
        except LeaveEvaluationError:
            self.evaluation_pending = True
            self.control.should_evaluate = False
            self.control.should_save = self.control.should_training_stop = True
            return {}
        self.evaluation_pending = False
        return metrics

    def prediction_step(self, *args: Any, **kwargs: Any) -> Any:
        """One batch of an evaluation."""
        if self.is_in_train and self.run_callback.shall_end():
            raise LeaveEvaluationError
        return super().prediction_step(*args, **kwargs)

    # ------------------------------------------------------------------------------------ saving

    def _get_output_dir(self, trial: Any) -> str:
        return str(self._aside) if self._aside is not None else super()._get_output_dir(trial)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """Whole or not at all, and never one with a loss or weights that are no numbers."""
        step = self.state.global_step
        if step == self._saved_step:
            return
        self._refuse_nan(step)
        began = time.monotonic()
        try:
            save_whole(
                self.folder,
                step,
                self.args.save_total_limit,
                self.state,
                self._progress(),
                self._save_into(model, trial),
            )
        except Exception as error:
            if is_disk_full(error):
                raise DiskFullError(
                    N_(
                        "The disk is full: checkpoint {step} could not be saved; the ones before it are whole. Free space at {path}."
                    ),
                    step=step,
                    path=str(self.args.output_dir),
                ) from error
            raise
        self._saved_step = step
        self.run_callback.saved(step, time.monotonic() - began)

    def _save_into(self, model: nn.Module, trial: Any) -> Callable[[Path], None]:
        def save(aside: Path) -> None:
            self._aside = aside
            try:
                Trainer._save_checkpoint(self, model, trial)
            finally:
                self._aside = None

        return save

    def _progress(self) -> Progress:
        return Progress(
            loss_sum=self._tr_loss.item(),
            last_logged_step=self._globalstep_last_logged,
            total_loss=self._total_loss_scalar,
            evaluation_pending=self.evaluation_pending or self.run_callback.evaluation_skipped,
            num_threads=torch.get_num_threads(),
            deterministic=torch.are_deterministic_algorithms_enabled(),
            config=self._config,
        )

    def _refuse_nan(self, step: int) -> None:
        trained = (parameter for parameter in self.model.parameters() if parameter.requires_grad)
        if not torch.isfinite(self._tr_loss).all() or not all(bool(torch.isfinite(one).all()) for one in trained):
            raise nan_loss(step, self._saved_step)
