"""The rows that a start trains on: hashed as they are read, written down, then labelled."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch.utils.data import Subset
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from lora_backend.config.named_data import rows_of_epoch
from lora_backend.config.schema import TrainingConfig
from lora_backend.data.content_hash import sha256_together
from lora_backend.data.example_file import ExampleFile, open_examples
from lora_backend.data.examples import Chat
from lora_backend.data.held_back import held_back, left_over
from lora_backend.data.question_rows import parse_questions, read_bytes, sha256_of_bytes
from lora_backend.data.row_file import open_row_file
from lora_backend.errors import ConfigError, DataError
from lora_backend.formats import size
from lora_backend.i18n import N_
from lora_backend.preflight.named_files import NamedRows
from lora_backend.preflight.resolve import ResolvedConfig
from lora_backend.runs.checkpoints.starts import refuse_changed_data
from lora_backend.runs.record.attempts import ReadSet
from lora_backend.runs.record.run_store import RunStore
from lora_backend.tokens.epoch_order import EpochOrder, SharedRows
from lora_backend.tokens.label_rows import rules_of
from lora_backend.tokens.labels import Labeller
from lora_backend.tokens.token_rows import TokenRows, is_large

logger = logging.getLogger(__name__)
TELL_EVERY_S = 1.0


@dataclass(frozen=True)
class SetRead:
    """One data set of the config: its rows, which bytes they are, and their share of an epoch."""

    examples: ExampleFile
    read: ReadSet
    share: float

    @property
    def name(self) -> str:
        """For people."""
        return self.read.path + (f" ({self.read.split})" if self.read.split else "")


@dataclass(frozen=True)
class StartData:
    """What a start has found in its files."""

    sets: tuple[SetRead, ...] = ()
    """None of them where a caller's DataLoader gives the batches."""
    evaluated: ExampleFile | None = None
    """The rows of `eval_dataset`."""
    questions: list[dict[str, Any]] = field(default_factory=list)
    questions_sha256: str | None = None

    @property
    def data_sha256(self) -> str | None:
        return sha256_together([one.read.sha256 for one in self.sets])

    @property
    def eval_sha256(self) -> str | None:
        return None if self.evaluated is None else self.evaluated.sha256


@dataclass(frozen=True)
class StartRows:
    """What is trained on and what is evaluated, in tokens; None where there is none."""

    train_rows: TokenRows | None = None
    order: EpochOrder | None = None
    eval_rows: Subset[dict[str, list[int]]] | None = None
    own_eval_rows: TokenRows | None = None
    """Those of `eval_dataset`."""
    are_chats: bool = False
    """Whether any of the sets that are trained on holds chats."""

    def log_counts(self) -> None:
        """What was counted of rows that were labelled as training went."""
        for rows in (self.train_rows, self.own_eval_rows):
            if rows is not None and rows.is_lazy:
                rows.log_counts()


def read_data(resolved: ResolvedConfig, folder: RunStore, *, has_batches: bool) -> StartData:
    """The rows of the config's data sets, and its questions. `has_batches`: a caller's DataLoader takes the data sets' place.

    Raises `DataChangedError` where the data is not what the run was launched with, or last read, and nobody
    has confirmed it; then nothing of the run has been touched.
    """
    trained = () if has_batches else resolved.training_sets
    if not (trained or has_batches):
        raise ConfigError(N_("`dataset` is missing. Name a file of rows to train on."))
    read = [
        ReadSet(path=rows.named.path, split=rows.named.split, sha256=open_row_file(rows.bound, rows.kept, split=rows.named.split).sha256)
        for rows in trained
    ]  # fmt: skip
    refuse_changed_data(folder, read)  # before anybody complains of what is in it
    sets = tuple(SetRead(_opened(rows, folder), one, rows.named.share) for rows, one in zip(trained, read, strict=True))
    refuse_changed_data(folder, [one.read.model_copy(update={"sha256": one.examples.sha256}) for one in sets])
    evaluated, questions, sha256 = None, [], None
    for rows in resolved.rows:
        if rows.key == "eval_dataset":
            evaluated = _opened(rows, folder)
        elif rows.key == "questions":
            content = read_bytes(rows.bound)
            questions, sha256 = parse_questions(content, rows.bound.name), sha256_of_bytes(content)
    return StartData(sets, evaluated, questions, sha256)


def _opened(rows: NamedRows, folder: RunStore) -> ExampleFile:
    told = time.monotonic()

    def tell(part: float) -> None:
        nonlocal told
        if time.monotonic() - told > TELL_EVERY_S:
            told = time.monotonic()
            with folder.changing_status() as status:
                status.attempt.fraction = part

    how = rows.read_as
    return open_examples(
        rows.bound, rows.kept, how.data_format, dict(how.data_columns), how.max_bad_rows, tell, split=how.split, most_bytes=how.most_bytes
    )  # fmt: skip


def label_sets(data: StartData, config: TrainingConfig, tokenizer: PreTrainedTokenizerBase) -> StartRows:
    """Training rows with their order, and the rows that are evaluated: those of a file, or held out of each set."""
    labeller = Labeller(tokenizer, rules_of(config))
    own = None if data.evaluated is None else _token_rows({"eval_dataset": data.evaluated}, labeller, config)
    eval_rows = None if own is None else Subset(own, own.trainable(np.arange(len(own), dtype=np.int32)))  # type: ignore[arg-type]
    if not data.sets:
        return StartRows(eval_rows=eval_rows, own_eval_rows=own)
    are_chats = any(isinstance(one.examples[0], Chat) for one in data.sets)
    rows = _token_rows({one.name: one.examples for one in data.sets}, labeller, config)
    if rows.is_lazy and config.batching == "packed":
        raise ConfigError(
            N_(
                "`batching: packed` needs the length of every row beforehand; of {rows} rows in {size} they are only known as training goes. Set `batching: flat`."
            ),
            rows=len(rows),
            size=size(sum(one.examples.rows.size_bytes for one in data.sets)),
        )
    shared, kept = [], []
    for place, one in enumerate(data.sets):
        numbers, val_size = rows.numbers_of(place), config.val_size if len(one.examples) > 1 else 0.0
        trained = left_over(len(numbers), val_size, config.seed).astype(np.int32) + numbers.start
        shared.append(SharedRows(rows.trainable(trained), one.share))
        aside = held_back(len(numbers), val_size, config.seed).astype(np.int32) + numbers.start
        kept.append(rows.trainable(aside))
        _log_set(one, len(shared[-1].rows))
    _log_counts(rows)
    order, aside = EpochOrder(shared, config.seed), np.concatenate(kept)
    if not len(order):
        raise DataError(
            N_(
                "No row has anything left to learn within `max_length` {limit}. Raise `max_length`, or shorten the rows."
            ),
            limit=config.max_length,
        )
    if config.val_size:
        if not len(aside):
            raise ConfigError(N_("`val_size` holds out rows, but the data set has only one. Set `val_size` to 0."))
        eval_rows = Subset(rows, aside)  # type: ignore[arg-type]
    return StartRows(rows, order, eval_rows, own, are_chats)


def _token_rows(sets: Mapping[str, ExampleFile], labeller: Labeller, config: TrainingConfig) -> TokenRows:
    return TokenRows(sets, labeller, most_bad=config.max_bad_rows, is_lazy=is_large(sets.values()))


def _log_set(one: SetRead, num_trained: int) -> None:
    examples = one.examples
    logger.info(
        "data: %s: %s rows of %s, %s bad ones left out, %s duplicates; %s of them an epoch (share %g); sha256 %s",
        one.name, len(examples), examples.found_form.form, examples.num_bad_rows, examples.num_duplicates,
        rows_of_epoch(num_trained, one.share), one.share, one.read.sha256,
    )  # fmt: skip


def _log_counts(rows: TokenRows) -> None:
    if rows.is_lazy:
        logger.info("data: so many rows are labelled batch by batch; what is cut of them is counted as training goes")
    else:
        rows.log_counts()


def learned_positions(model: PreTrainedModel) -> int | None:
    """How many positions a model has a table of; None where it computes them."""
    table = next(
        (
            m
            for n, m in model.named_modules()
            if isinstance(m, torch.nn.Embedding) and re.search(r"(^|\.)(wpe|\w*position\w*)$", n)
        ),
        None,
    )
    return getattr(model.config, "max_position_embeddings", None) if table is not None else None


def refuse_rows_beyond_positions(model: PreTrainedModel, rows: StartRows) -> None:
    """A model that learned its positions has a table of them, and breaks at its end."""
    limit = learned_positions(model)
    parts = (rows.train_rows, rows.own_eval_rows) if limit else ()
    refuse_beyond(limit, max((part.most_tokens() for part in parts if part is not None), default=0))


def refuse_beyond(limit: int | None, longest: int) -> None:
    """Raise `DataError` where the longest row has more tokens than the model has positions."""
    if limit and longest > limit:
        raise DataError(
            N_(
                "The longest row has {longest} tokens, but the model has only {limit} positions. Set `max_length: {limit}`."
            ),
            longest=longest,
            limit=limit,
        )
