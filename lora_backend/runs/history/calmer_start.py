"""Where a run whose loss turned away goes on, and how much slower it learns from there."""

from __future__ import annotations

from dataclasses import dataclass

from lora_backend.config.schema import KEYS
from lora_backend.runs.checkpoints.manifest import checkpoints_of, step_of
from lora_backend.runs.history.loss_health import LossHealth
from lora_backend.runs.record.run_store import RunStore


@dataclass(frozen=True)
class CalmerStart:
    """Half the learning rate, from before the loss turned away."""

    step: int
    """Of the checkpoint; 0: from the first step."""
    learning_rate: float


def calmer_start(run: RunStore, health: LossHealth) -> CalmerStart | None:
    """What to resume a diverged run with; None for one that did not diverge.

    A checkpoint of the step at which the loss turned away, or later, holds what it did to the weights.
    """
    if health.code not in ("diverged", "rose") or health.step is None:
        return None
    rate = run.config_as_changed().get("learning_rate", KEYS["learning_rate"].default)
    if not isinstance(rate, int | float) or isinstance(rate, bool):
        return None
    turned = health.step if health.code == "diverged" else health.step + 1  # `rose`: where it was lowest
    before = [step for path in checkpoints_of(run) if (step := step_of(path) or 0) < turned]
    return CalmerStart(max(before, default=0), float(f"{rate / 2:.6g}"))
