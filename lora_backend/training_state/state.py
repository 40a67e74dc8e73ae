"""Where a training stands: all that its next step depends on, and what of it a checkpoint keeps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import torch
from peft import PeftModel
from pydantic import ConfigDict
from pydantic.dataclasses import dataclass as checked_dataclass
from torch import nn
from torch.amp.grad_scaler import GradScaler
from torch.optim.lr_scheduler import LambdaLR

from lora_backend.peers.peers import Peers
from lora_backend.training_state.randomness import RandomState

OF_OTHERS = "random_of_peers"
"""Where a state has the random generators of all processes but the first."""


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
    sampling_pending: bool = False
    """The same of questions that should have been answered."""
    evaluations: dict[int, float | None] = field(default_factory=dict)
    """Step → evaluation loss; None where it was no number."""
    accuracies: dict[int, float | None] = field(default_factory=dict)
    """Step → share of the evaluated tokens that the model would have chosen itself. Older versions counted none."""
    checkpoints: list[int] = field(default_factory=list)
    """Steps of the checkpoints that the config asked for, those with them that are gone; not of those that a person or a
    stop asked for: what a run ends with does not go by when it was interrupted."""

    @property
    def is_something_pending(self) -> bool:
        return self.evaluation_pending or self.sampling_pending

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
    """The adapter and what trains it. PEFT saves and loads the adapter; the rest goes through `state_dict`.

    Of several processes each has one. All of it is the same in each but the random generators, which stand elsewhere.
    """

    model: PeftModel
    optimizer: torch.optim.Optimizer
    schedule: LambdaLR
    scaler: GradScaler
    progress: Progress = field(default_factory=Progress)
    loss_sum: torch.Tensor = field(default_factory=lambda: torch.zeros(()))
    """Losses since the last point of the curves; the next point is their mean."""
    _at_step_end: tuple[RandomState, torch.Tensor] | None = None

    @cached_property
    def trained(self) -> list[nn.Parameter]:
        """In the model's order. Found once: looking through all modules takes milliseconds, at each step."""
        return [parameter for parameter in self.model.parameters() if parameter.requires_grad]

    def zero_grad(self) -> None:
        for parameter in self.trained:
            parameter.grad = None

    def add_losses(self, losses: torch.Tensor) -> None:
        """Those of a step's micro-batches, in the order of these."""
        self.loss_sum = self.loss_sum.to(losses.device)
        for loss in losses:
            self.loss_sum = self.loss_sum + loss

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
        self.zero_grad()
        random_state, self.loss_sum = self._at_step_end
        random_state.restore()

    def state_dict(self, peers: Peers) -> dict[str, Any]:
        """Tensors and plain values; all but the adapter. Asked by all processes together, the same at each."""
        first, *others = peers.gathered(RandomState.now().state_dict())
        found = {
            "progress": asdict(self.progress),
            "loss_sum": self.loss_sum.item(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "scaler": self.scaler.state_dict(),
            "random": first,
        }
        return found | ({OF_OTHERS: others} if others else {})

    def load_state_dict(self, state: Mapping[str, Any], peers: Peers) -> None:
        """Go on from there, the random generators of this process too: where the checkpoint is of fewer processes and has
        none for it, they stay as they are. Raises for what does not fit this training."""
        self.progress = progress_of(state)
        self.loss_sum = torch.tensor(state["loss_sum"], dtype=torch.float32)
        self.optimizer.load_state_dict(self._in_our_kernels(state["optimizer"]))
        self.schedule.load_state_dict(dict(state["schedule"]))
        if state["scaler"]:
            self.scaler.load_state_dict(state["scaler"])
        if peers.rank < len(found := random_states(state)):
            RandomState.from_state_dict(found[peers.rank]).restore()

    def _in_our_kernels(self, saved: Mapping[str, Any]) -> dict[str, Any]:
        """The checkpoint's optimizer, its step taken in as many kernels as ours: its own word is of the run that wrote it."""
        ours = [{"fused": group["fused"]} if "fused" in group else {} for group in self.optimizer.param_groups]
        groups = saved["param_groups"]
        if len(groups) != len(ours):
            return dict(saved)  # refused where it is loaded
        return {**saved, "param_groups": [theirs | mine for theirs, mine in zip(groups, ours, strict=True)]}


def progress_of(state: Mapping[str, Any]) -> Progress:
    """Raises `TypeError` or `ValueError` for what is none."""
    return Progress(**state["progress"])


def random_states(state: Mapping[str, Any]) -> list[Any]:
    """Of each process that a state was written by, in the order of their ranks."""
    return [state["random"], *state.get(OF_OTHERS, ())]


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
    for one in random_states(state):
        RandomState.from_state_dict(one)
