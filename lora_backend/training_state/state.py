"""Where a training stands: all that its next step depends on, and what of it a checkpoint keeps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from peft import PeftModel
from pydantic import ConfigDict
from pydantic.dataclasses import dataclass as checked_dataclass
from torch.amp.grad_scaler import GradScaler
from torch.optim.lr_scheduler import LambdaLR

from lora_backend.training_state.randomness import RandomState


@checked_dataclass(config=ConfigDict(strict=True))
class Progress:
    """How far it has come."""

    step: int = 0
    """Optimizer steps that are done."""
    epoch: int = 0
    """Whole epochs that are done."""
    batch: int = 0
    """Batches of the epoch after them that are done: where the sampler stands."""
    last_logged_step: int = 0
    evaluation_pending: bool = False
    """The held-back rows should have been evaluated at this step, but the run was to end."""
    evaluations: dict[int, float] = field(default_factory=dict)
    """Step → evaluation loss, where it is a number."""

    def advance(self, batches: int, per_epoch: int) -> None:
        """A step of so many batches is done."""
        self.step += 1
        self.batch += batches
        if self.batch >= per_epoch:
            self.next_epoch()

    def next_epoch(self) -> None:
        self.epoch, self.batch = self.epoch + 1, 0

    def epochs_done(self, per_epoch: int) -> float:
        """With the part of the epoch that is being trained."""
        return self.epoch + self.batch / per_epoch


@dataclass
class TrainState:
    """The adapter and what trains it. PEFT saves and loads the adapter; the rest goes through `state_dict`."""

    model: PeftModel
    optimizer: torch.optim.Optimizer
    schedule: LambdaLR
    scaler: GradScaler
    progress: Progress = field(default_factory=Progress)
    loss_sum: torch.Tensor = field(default_factory=lambda: torch.zeros(()))
    """Losses since the last point of the curves; the next point is their mean."""
    _at_step_end: tuple[RandomState, torch.Tensor] | None = None

    def take_mean_loss(self) -> float:
        """Of the steps since the last point of the curves, which this one is."""
        mean = self.loss_sum.item() / (self.progress.step - self.progress.last_logged_step)
        self.loss_sum, self.progress.last_logged_step = torch.zeros_like(self.loss_sum), self.progress.step
        return mean

    def mark_step_end(self) -> None:
        """A step that is given up goes back to here."""
        self._at_step_end = RandomState.now(), self.loss_sum

    def back_to_step_end(self) -> None:
        """As if the step that was given up had not begun."""
        assert self._at_step_end is not None
        self.model.zero_grad()
        random_state, self.loss_sum = self._at_step_end
        random_state.restore()

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values; all but the adapter."""
        return {
            "progress": asdict(self.progress),
            "loss_sum": self.loss_sum.item(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "scaler": self.scaler.state_dict(),
            "random": RandomState.now().state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there, the random generators of this process too. Raises for what does not fit this training."""
        self.progress = progress_of(state)
        self.loss_sum = torch.tensor(state["loss_sum"], dtype=torch.float32)
        self.optimizer.load_state_dict(dict(state["optimizer"]))
        self.schedule.load_state_dict(dict(state["schedule"]))
        if state["scaler"]:
            self.scaler.load_state_dict(state["scaler"])
        RandomState.from_state_dict(state["random"]).restore()


def progress_of(state: Mapping[str, Any]) -> Progress:
    """Raises `TypeError` or `ValueError` for what is none."""
    return Progress(**state["progress"])


def refuse_no_state(state: Mapping[str, Any]) -> None:
    """Raise for what `state_dict` would not give, before anything is trained on it."""
    progress_of(state)
    optimizer = state["optimizer"]
    is_optimizer = isinstance(optimizer["state"], dict) and all(
        isinstance(group["params"], list) for group in optimizer["param_groups"]
    )
    is_schedule = isinstance(state["schedule"]["last_epoch"], int) and isinstance(state["scaler"], dict)
    if not (is_optimizer and is_schedule and isinstance(state["loss_sum"], int | float)):
        raise ValueError("it does not hold what it should")
    RandomState.from_state_dict(state["random"])
