"""Training tokens/s beside TRL's own trainer as it comes: same model, data, adapter, order and steps, one process.

The demo's model and data. Tokens are those that are no padding. The two take turns, each from a fresh adapter.
"""

from __future__ import annotations

import logging
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.noise import median_and_spread
from lora_backend.config.schema import TrainingConfig
from lora_backend.data.row_file import preview_rows
from lora_backend.demo.config import demo_config
from lora_backend.demo.model import prepare_demo_model
from lora_backend.installation import this_installation
from tests.run_files import make_run

ROWS = 48
TURNS = 3


def main() -> None:
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    logging.getLogger("lora_backend").setLevel(logging.WARNING)
    installation = this_installation()
    prepare_demo_model(installation.cache, lambda *_: None)
    values = demo_config(installation.cache) | {"num_epochs": 1, "questions": None, "logging_steps": 1000}
    config = TrainingConfig.model_validate(values)
    rows = [dict(row.checked()) for row in preview_rows(Path(str(values["dataset"])), 1000)][:: 132 // ROWS][:ROWS]
    tokens = _num_tokens(rows, config)
    ours, trl = [], []
    for _ in range(TURNS):
        ours.append(tokens / _train_ours(rows, config))
        trl.append(tokens / _train_trl(rows, config))
    print(
        f"{len(rows)} chats, {tokens} tokens, one epoch, batch {config.batch_size}, LoRA r {config.r} on {config.target_modules}"
    )
    print("Flightdeck:", median_and_spread(ours, "tokens/s"))
    print("TRL:       ", median_and_spread(trl, "tokens/s"))
    print(f"ratio of the medians: {statistics.median(ours) / statistics.median(trl):.2f}")


def _num_tokens(rows: list[dict[str, Any]], config: TrainingConfig) -> int:
    from lora_backend.modeling.load import load_tokenizer
    from lora_backend.tokens.label_rows import label_rows
    from lora_backend.tokens.labels import LabelRules

    tokenized = label_rows(rows, load_tokenizer(config.model_name), LabelRules(config.max_length))
    return sum(len(ids) for ids in tokenized["input_ids"])


def _model(config: TrainingConfig) -> Any:
    from lora_backend.modeling.adapter import attach_adapter
    from lora_backend.modeling.load import load_model

    return attach_adapter(load_model(config), config)


def _train_ours(rows: list[dict[str, Any]], config: TrainingConfig) -> float:
    from lora_backend.modeling.load import load_tokenizer
    from lora_backend.tokens.label_rows import label_rows
    from lora_backend.tokens.labels import LabelRules
    from lora_backend.training.assembly import Data, assemble, fresh_state, try_longest_batch
    from lora_backend.training.loop import fit
    from lora_backend.training.reporter import RunReporter

    tokenizer = load_tokenizer(config.model_name)
    with tempfile.TemporaryDirectory() as folder:
        run = make_run(Path(folder), config={}, config_text="", argv=None)
        data, model = Data(label_rows(rows, tokenizer, LabelRules(config.max_length)), None, tokenizer), _model(config)

        def train() -> None:
            training = assemble(model, config, "fp32", data)
            state = fresh_state(model, training)
            try_longest_batch(training, state, data)
            fit(training, state, RunReporter(run))

        return _timed(train)


def _train_trl(rows: list[dict[str, Any]], config: TrainingConfig) -> float:
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    from lora_backend.modeling.load import load_tokenizer

    split = [{"prompt": row["messages"][:-1], "completion": row["messages"][-1:]} for row in rows]
    with tempfile.TemporaryDirectory() as folder:
        arguments = SFTConfig(
            output_dir=folder,
            num_train_epochs=1,
            learning_rate=config.learning_rate,
            per_device_train_batch_size=config.batch_size,
            max_length=config.max_length,
            bf16=False,
            use_cpu=True,
            report_to="none",
            save_strategy="no",
            disable_tqdm=True,
            logging_steps=1000,
            gradient_checkpointing=False,
        )
        trainer = SFTTrainer(
            model=_model(config),
            args=arguments,
            train_dataset=Dataset.from_list(split),
            processing_class=load_tokenizer(config.model_name),
        )
        return _timed(trainer.train)


def _timed(train: Callable[[], object]) -> float:
    began = time.perf_counter()
    train()
    return time.perf_counter() - began
