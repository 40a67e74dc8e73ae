"""The rows that a start trains on: read once, hashed from the same bytes, written down, then tokenized."""

from __future__ import annotations

import hashlib
import logging
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from datasets import concatenate_datasets
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from lora_backend.config.named_data import rows_of_epoch
from lora_backend.config.schema import TrainingConfig
from lora_backend.data.content_hash import sha256_together
from lora_backend.data.rows import Dataset, parse_dataset, parse_questions, read_bytes
from lora_backend.errors import ConfigError, DataError
from lora_backend.i18n import N_
from lora_backend.preflight.named_files import NamedRows
from lora_backend.preflight.resolve import ResolvedConfig
from lora_backend.runs.checkpoints.starts import refuse_changed_data
from lora_backend.runs.record.attempts import ReadSet
from lora_backend.runs.record.run_store import RunStore
from lora_backend.training.epoch_order import EpochOrder, SharedRows, held_back
from lora_backend.training.label_rows import label_rows, rules_of

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SetRead:
    """One data set of the config: its rows, which bytes they were, and their share of an epoch."""

    rows: Dataset
    read: ReadSet
    share: float


@dataclass(frozen=True)
class StartData:
    """What a start has read of its files; nothing is read a second time."""

    sets: tuple[SetRead, ...]
    """None of them where a caller's DataLoader gives the batches."""
    evaluated: Dataset | None
    """The rows of `eval_dataset`."""
    questions: list[dict[str, Any]]
    questions_sha256: str | None

    @property
    def data_sha256(self) -> str | None:
        return sha256_together([one.read.sha256 for one in self.sets])

    @property
    def eval_sha256(self) -> str | None:
        return None if self.evaluated is None else self.evaluated.sha256


@dataclass(frozen=True)
class Tokenized:
    """What is trained on and what is evaluated, in tokens; None where there is none."""

    train_rows: Any = None
    order: EpochOrder | None = None
    eval_rows: Any = None


def read_data(resolved: ResolvedConfig, folder: RunStore, *, has_batches: bool) -> StartData:
    """The rows of the config's data sets, and its questions. `has_batches`: a caller's DataLoader takes the data sets' place.

    Raises `DataChangedError` where the data is not what the run was launched with, or last read, and nobody
    has confirmed it; then nothing of the run has been touched.
    """
    content: dict[NamedRows, bytes] = {}
    for rows in resolved.rows:
        if not (has_batches and rows in resolved.training_sets):
            content[rows] = read_bytes(rows.bound)
    trained = [rows for rows in content if rows in resolved.training_sets]
    if not (trained or has_batches):
        raise ConfigError(N_("`dataset` is missing. Name a file of rows to train on."))
    read = [ReadSet(path=rows.named.path, split=rows.named.split, sha256=_sha256(content[rows])) for rows in trained]
    refuse_changed_data(folder, read)
    sets = tuple(
        SetRead(parse_dataset(content[rows], rows.bound.name), one, rows.named.share)
        for rows, one in zip(trained, read, strict=True)
    )
    by_key = {rows.key: (content[rows], rows.bound.name) for rows in content if rows not in trained}
    asked = by_key.get("questions")
    return StartData(
        sets,
        parse_dataset(*by_key["eval_dataset"]) if "eval_dataset" in by_key else None,
        parse_questions(*asked) if asked else [],
        _sha256(asked[0]) if asked else None,
    )


def tokenized(data: StartData, config: TrainingConfig, tokenizer: PreTrainedTokenizerBase) -> Tokenized:
    """Training rows with their order, and the rows that are evaluated: those of a file, or held back of each set."""
    eval_rows = None if data.evaluated is None else label_rows(data.evaluated.rows, tokenizer, rules_of(config))
    if not data.sets:
        return Tokenized(eval_rows=eval_rows)
    parts, shared, kept, first = [], [], [], 0
    for one in data.sets:
        rows = label_rows(one.rows.rows, tokenizer, rules_of(config))
        logger.info(
            "data: %s rows of %s, %s tokens, sha256 %s%s",
            len(rows),
            one.rows.format,
            sum(map(len, rows["input_ids"])),
            one.read.sha256,
            "" if len(data.sets) == 1 else f", {rows_of_epoch(len(rows), one.share)} of them an epoch: {one.read.path}",
        )
        numbers, apart = np.arange(len(rows), dtype=np.int32), np.arange(0, dtype=np.int32)
        if config.val_size and len(rows) > 1:
            numbers, apart = held_back(len(rows), config.val_size, config.seed)
        shared.append(SharedRows(numbers + first, one.share))
        kept.append(apart + first)
        parts.append(rows)
        first += len(rows)
    rows, aside = concatenate_datasets(parts), np.concatenate(kept)
    if config.val_size:
        if not len(aside):
            raise ConfigError(N_("`val_size` holds rows back, but the data set has only one. Set `val_size` to 0."))
        eval_rows = rows.select(aside)
    return Tokenized(rows, EpochOrder(shared, config.seed), eval_rows)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def refuse_rows_beyond_positions(model: PreTrainedModel, tokens: Tokenized) -> None:
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
    longest = max(
        (len(ids) for rows in (tokens.train_rows, tokens.eval_rows) if rows for ids in rows["input_ids"]), default=0
    )
    if limit and longest > limit:
        raise DataError(
            N_(
                "The longest row has {longest} tokens, but the model has only {limit} positions. Set `max_length: {limit}`."
            ),
            longest=longest,
            limit=limit,
        )
