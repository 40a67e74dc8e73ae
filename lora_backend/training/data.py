"""The rows that a start trains on: read once, hashed from the same bytes, written down, then tokenized."""

from __future__ import annotations

import hashlib
import logging
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from lora_backend.config.schema import TrainingConfig
from lora_backend.data.rows import Dataset, parse_dataset, parse_questions, read_bytes
from lora_backend.errors import ConfigError, DataError
from lora_backend.i18n import N_
from lora_backend.runs.checkpoints.starts import refuse_changed_data
from lora_backend.runs.record.run_store import RunStore
from lora_backend.training.label_rows import label_rows, rules_of

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class StartData:
    """What a start has read of its files; nothing is read a second time."""

    dataset: Dataset | None
    """None where a caller's DataLoader gives the batches."""
    questions: list[dict[str, Any]]
    data_sha256: str | None
    """Of the file's bytes; None where the rows are a caller's."""
    questions_sha256: str | None


def read_data(config: TrainingConfig, folder: RunStore, *, has_batches: bool) -> StartData:
    """The config's data set and questions. `has_batches`: a caller's DataLoader takes the data set's place.

    Raises `DataChangedError` where the data set is not the one that the run was launched with, or last read, and nobody
    has confirmed it; then nothing of the run has been touched.
    """
    dataset: Dataset | None = None
    questions: list[dict[str, Any]] = []
    data_sha256 = questions_sha256 = None
    if not has_batches:
        if config.dataset is None:
            raise ConfigError(N_("`dataset` is missing. Name a JSONL file to train on."))
        path = Path(config.dataset)
        content = read_bytes(path)
        data_sha256 = hashlib.sha256(content).hexdigest()
        refuse_changed_data(folder, config.dataset, data_sha256)
        dataset = parse_dataset(content, path.name)
    if config.questions:
        path = Path(config.questions)
        content = read_bytes(path)
        questions = parse_questions(content, path.name)
        questions_sha256 = hashlib.sha256(content).hexdigest()
    return StartData(dataset, questions, data_sha256, questions_sha256)


def tokenized(dataset: Dataset, config: TrainingConfig, tokenizer: PreTrainedTokenizerBase) -> tuple[Any, Any]:
    """Training rows, and the ones held back for evaluation (None without `val_size`)."""
    rows = label_rows(dataset.rows, tokenizer, rules_of(config))
    logger.info(
        "data: %s rows of %s, %s tokens, sha256 %s",
        len(rows),
        dataset.format,
        sum(map(len, rows["input_ids"])),
        dataset.sha256,
    )
    if not config.val_size:
        return rows, None
    if len(rows) < 2:
        raise ConfigError(N_("`val_size` holds rows back, but the data set has only one. Set `val_size` to 0."))
    held_back = max(1, round(len(rows) * config.val_size))
    parts = rows.train_test_split(test_size=min(held_back, len(rows) - 1), seed=config.seed)
    return parts["train"], parts["test"]


def refuse_rows_beyond_positions(model: PreTrainedModel, rows: Any) -> None:
    """A model that learned its positions has a table of them, and breaks at its end."""
    table = next(
        (
            m
            for n, m in model.named_modules()
            if isinstance(m, torch.nn.Embedding) and re.search(r"(^|\.)(wpe|\w*position\w*)$", n)
        ),
        None,
    )
    limit = getattr(model.config, "max_position_embeddings", None) if table is not None else None
    longest = max(map(len, rows["input_ids"]))
    if limit and longest > limit:
        raise DataError(
            N_(
                "The longest row has {longest} tokens, but the model has only {limit} positions. Set `max_length: {limit}`."
            ),
            longest=longest,
            limit=limit,
        )
