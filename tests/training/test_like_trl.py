"""Held against TRL's SFTTrainer in fp32: the same rows in the same order with the same settings give the same loss at each step.

Everything that makes ours fast is as it comes: what `auto` takes on this machine must train what TRL trains.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from datasets import Dataset
from transformers import set_seed
from trl import SFTConfig, SFTTrainer

from lora_backend.config.schema import TrainingConfig
from lora_backend.modeling.adapter import attach_adapter
from lora_backend.modeling.devices import resolve_precision
from lora_backend.modeling.load import load_model, load_tokenizer
from lora_backend.runs.record.run_store import RunStore
from lora_backend.tokens.epoch_order import EpochOrder, Rows
from lora_backend.tokens.label_rows import label_rows
from lora_backend.tokens.labels import LabelRules
from lora_backend.training.assembly import Data, assemble, fresh_state, try_longest_batch
from lora_backend.training.loop import fit
from lora_backend.training.reporter import RunReporter
from tests.tiny import chats
from tests.training.helpers import curve

Make = Callable[..., dict[str, Any]]
SETTINGS: dict[str, Any] = {
    "r": 8, "alpha": 32, "batch_size": 3, "target_batch_size": 6, "num_epochs": 6, "learning_rate": 0.003, "lr_scheduler_type": "cosine",
    "warmup_ratio": 0.2, "weight_decay": 0.1, "max_grad_norm": 0.5, "logging_steps": 1, "save_steps": 1000,
}  # fmt: skip
"""Rows of unequal length, two passes a step and one in an epoch's last, warm-up, decay, clipping."""
WITHIN = 0.01
"""Of a step's loss, whatever `auto` takes."""
WITHIN_IN_FP32 = 1e-5
"""The same sums in another order."""


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Products this small only wait for one another; and accelerate's state, which each sets up, is made anew."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
    AcceleratorState._reset_state(reset_partial_state=True)


class InOrder(EpochOrder):
    """Every epoch's rows as they stand, as TRL's sequential sampler takes them."""

    def of(self, epoch: int) -> Rows:
        return np.arange(len(self), dtype=np.int32)


def attached(config: TrainingConfig, precision: str) -> Any:
    set_seed(config.seed)
    return attach_adapter(load_model(config.model_copy(update={"precision": precision})), config)


def losses_of_ours(config: TrainingConfig, rows: Dataset, folder: Path) -> list[float]:
    folder.mkdir()
    run, precision = RunStore(folder), resolve_precision(config.precision)
    data = Data(rows, None, load_tokenizer(config.model_name), order=InOrder.of_all(len(rows), config.seed))
    model = attached(config, precision)
    training = assemble(model, config, precision, data)
    state = fresh_state(model, training)
    try_longest_batch(training, state)
    fit(training, state, RunReporter(run))
    return [point["loss"] for point in curve(run)]


def losses_of_trl(config: TrainingConfig, rows: Dataset, folder: Path) -> list[float]:
    assert config.target_batch_size is not None
    arguments = SFTConfig(
        output_dir=str(folder),
        num_train_epochs=config.num_epochs,
        learning_rate=config.learning_rate,
        lr_scheduler_type=config.lr_scheduler_type,
        warmup_steps=config.warmup_ratio,
        weight_decay=config.weight_decay,
        max_grad_norm=config.max_grad_norm,
        per_device_train_batch_size=config.batch_size,
        gradient_accumulation_steps=config.target_batch_size // config.batch_size,
        gradient_checkpointing=False,
        train_sampling_strategy="sequential",
        bf16=False,
        use_cpu=True,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        seed=config.seed,
    )
    trainer = SFTTrainer(
        model=attached(config, "fp32"),
        args=arguments,
        train_dataset=rows.remove_columns("attention_mask"),
        processing_class=load_tokenizer(config.model_name),
    )
    trainer.train()
    return [row["loss"] for row in trainer.state.log_history if "loss" in row]


@pytest.fixture(scope="module")
def theirs() -> dict[str, list[float]]:
    """TRL's losses, computed once."""
    return {}


@pytest.mark.parametrize(
    ("keys", "within"),
    [
        ({"precision": ...}, WITHIN),
        ({"precision": "fp32"}, WITHIN_IN_FP32),
        ({"precision": "bf16"}, WITHIN),
        ({"precision": "fp32", "batching": "padded", "fused_lora": False, "loss_type": "nll"}, WITHIN_IN_FP32),
    ],
    ids=["as it comes", "fp32", "bf16", "plain"],
)
def test_the_loss_of_every_step_is_that_of_trl(
    keys: dict[str, Any], within: float, config: Make, tmp_path: Path, theirs: dict[str, list[float]]
) -> None:
    typed = TrainingConfig(**config(**SETTINGS | keys))
    rows = label_rows(chats()[:13], load_tokenizer(typed.model_name), LabelRules(64))
    if not theirs:
        theirs["fp32"] = losses_of_trl(typed, rows, tmp_path / "theirs")
    ours = losses_of_ours(typed, rows, tmp_path / "ours")
    assert len(ours) == len(theirs["fp32"]) == 3 * typed.num_epochs
    assert ours[-1] < 0.95 * ours[0]  # what is compared has learned something
    assert ours == pytest.approx(theirs["fp32"], rel=within)
