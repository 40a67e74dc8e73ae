"""Train a model on batches with the real loop, without the stages around it."""

from __future__ import annotations

from typing import Any

from peft import PeftModel
from torch.utils.data import DataLoader

from lora_backend.config.schema import TrainingConfig
from lora_backend.runs.record.run_store import RunStore
from lora_backend.training.assembly import Data, assemble, fresh_state
from lora_backend.training.loop import fit
from lora_backend.training.reporter import RunReporter
from lora_backend.training_state.state import TrainState


def fitted(
    model: PeftModel, config: TrainingConfig, run: RunStore, loader: DataLoader[Any]
) -> tuple[TrainState, RunReporter]:
    """The state behind the last step, and the reporter with what it measured."""
    training = assemble(model, config, config.precision, Data(loader=loader))
    state, reporter = fresh_state(model, training), RunReporter(run)
    fit(training, state, reporter)
    return state, reporter
