"""What the trainer writes into its run while it goes, and how it hears that it shall stop."""

from __future__ import annotations

import logging
import math
import time
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from lora_backend.modeling.devices import memory_in_use_bytes, memory_table
from lora_backend.runs.folder import RunFolder
from lora_backend.training.measure import StepMemory

logger = logging.getLogger(__name__)
STATUS_INTERVAL_S = 0.5
"""`status.json` is flushed to the disk, so not at every step of a fast model."""


class RunCallback(TrainerCallback):
    """Keeps `status.json` and `metrics.jsonl` of one run."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self.memory = StepMemory()
        self.num_tokens = 0
        """Tokens that are no padding, trained on since the last point of the curves."""
        self._counted_since = self._began = self._last_status = time.monotonic()
        self._first_step = 0
        self._memory_is_written = False

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._counted_since = self._began = time.monotonic()
        self._first_step = state.global_step
        self.folder.write_status(
            state="running",
            stage="training",
            step=state.global_step,
            total_steps=state.max_steps,
            fraction=None,
            detail=None,
        )

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        now, done = time.monotonic(), state.global_step - self._first_step
        if done == 1:
            for line in memory_table():
                logger.info("memory after the first step: %s", line)
        if self.memory.result is not None and not self._memory_is_written:
            self._memory_is_written = True
            self.folder.write_attempt(measured={"step": state.global_step, **self.memory.result})
        if self.folder.stop_requested:
            logger.info("stop was asked for: saving a checkpoint after step %s", state.global_step)
            control.should_save = control.should_training_stop = True
        if now - self._last_status >= STATUS_INTERVAL_S or state.global_step == state.max_steps:
            self._last_status = now
            eta_s = (now - self._began) / done * (state.max_steps - state.global_step)
            self.folder.write_status(step=state.global_step, epoch=state.epoch, eta_s=round(eta_s, 1))

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: dict[str, float], **_: Any
    ) -> None:
        names = ("loss", "eval_loss", "learning_rate", "grad_norm")
        row: dict[str, Any] = {name: _finite(logs[name]) for name in names if name in logs}
        if not row:  # the summary at the end
            return
        now = time.monotonic()
        if "loss" in row:
            row["tokens_per_s"] = round(self.num_tokens / max(now - self._counted_since, 1e-9), 2)
            self.num_tokens, self._counted_since = 0, now
        row = {"step": state.global_step, "epoch": state.epoch, **row}
        self.folder.append_metrics(row | {"memory_bytes": memory_in_use_bytes(), "time": time.time()})
        logger.info(
            "step %s of %s: %s", state.global_step, state.max_steps, {k: v for k, v in row.items() if k != "step"}
        )


def _finite(value: float) -> float | None:
    """JSON has no NaN: None stands for it."""
    return float(value) if math.isfinite(value) else None
