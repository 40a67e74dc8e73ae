"""The batches of every epoch, in an order that follows from the seed and the epoch's number alone."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Mapping, Sequence
from itertools import chain, islice
from typing import Any, Literal

import torch
from accelerate import Accelerator, skip_first_batches
from torch.utils.data import DataLoader
from transformers.trainer_utils import has_length

from lora_backend.config.schema import TrainingConfig
from lora_backend.errors import ConfigError, DataError
from lora_backend.i18n import N_
from lora_backend.training.epoch_batches import EpochBatches
from lora_backend.training.flat_batch import Batch, Features
from lora_backend.training.prefetch import made_ahead, pinned

BATCH_KEYS = ("input_ids", "attention_mask", "labels")
WINDOWS_AHEAD = 2
"""Optimizer steps whose batches wait, made; one more is in the making."""
EVAL_BATCHES_AHEAD = 4
Way = Literal["flat", "padded", "packed"]
Collate = Callable[[Sequence[Features]], Batch]


class TrainBatches(ABC):
    """What is trained on, batch by batch, and how many batches and steps that makes."""

    def __init__(self, config: TrainingConfig, batch_size: int) -> None:
        self.batch_size = batch_size
        """Rows of a batch; packed, its lines."""
        self.accumulation = accumulation_steps(config, batch_size)
        self.total_steps: int

    @abstractmethod
    def num_in(self, epoch: int) -> int:
        """Batches of the epoch."""

    @abstractmethod
    def windows(self, epoch: int, first_batch: int) -> Generator[list[Batch], None, None]:
        """The batches of each optimizer step of an epoch, from its batch `first_batch` on, in host memory. Whoever stops
        before the last closes it."""

    def _steps_in(self, epoch: int) -> int:
        return math.ceil(self.num_in(epoch) / self.accumulation)


class OwnBatches(TrainBatches):
    """Of the run's own rows, made ahead of the step."""

    def __init__(
        self,
        rows: Any,
        epochs: EpochBatches,
        collate: Collate,
        config: TrainingConfig,
        *,
        in_length_groups: bool = False,
    ) -> None:
        """`in_length_groups`: of the rows of an optimizer step those of like length share a batch."""
        super().__init__(config, config.batch_size)
        self.rows, self.epochs, self._collate, self._in_length_groups = rows, epochs, collate, in_length_groups
        self.max_length = config.max_length
        self.total_steps = config.max_steps or self._steps_of(config.num_epochs)

    def num_in(self, epoch: int) -> int:
        return self.epochs.num_in(epoch)

    def batch_of(self, numbers: Sequence[int]) -> Batch:
        """Made of rows by their numbers."""
        return self._collate(rows_at(self.rows, numbers))

    def windows(self, epoch: int, first_batch: int) -> Generator[list[Batch], None, None]:
        return made_ahead(self._windows(epoch, first_batch), WINDOWS_AHEAD)

    def _windows(self, epoch: int, first_batch: int) -> Generator[list[Batch], None, None]:
        batches = self.epochs.of(epoch, first_batch)
        while window := list(islice(batches, self.accumulation)):
            features = [rows_at(self.rows, numbers) for numbers in window]
            if self._in_length_groups:
                features = by_length(features)
            yield [pinned(self._collate(rows)) for rows in features]

    def _steps_of(self, num_epochs: float) -> int:
        if self.epochs.are_alike:
            return math.ceil(num_epochs * self._steps_in(0))
        whole = math.floor(num_epochs)
        steps = sum(self._steps_in(epoch) for epoch in range(whole))
        return steps + (math.ceil((num_epochs - whole) * self._steps_in(whole)) if num_epochs > whole else 0)


class CallersBatches(TrainBatches):
    """Of a caller's own DataLoader, as they come. Nothing of it is made ahead by a thread of ours, for it may draw random
    numbers that the steps draw too; it can have workers of its own."""

    def __init__(self, loader: DataLoader[Any], config: TrainingConfig, accelerator: Accelerator) -> None:
        """Its order is by the run's seed where it is random. Raises `ConfigError` where its batches do not reach the target."""
        batch_size, target = getattr(loader, "batch_size", None), config.target_batch_size
        if batch_size and target and target % batch_size:
            raise ConfigError(
                N_(
                    "`target_batch_size` {target} is not a multiple of the DataLoader's batches of {batch} rows. Change one of them."
                ),
                target=target,
                batch=batch_size,
            )
        super().__init__(config, batch_size or config.batch_size)
        self._loader: Any = accelerator.prepare(loader)
        num_batches = len(self._loader) if has_length(self._loader) else None
        if num_batches is None and not config.max_steps:
            raise ConfigError(N_("The DataLoader has no length, so its epochs cannot be counted. Set `max_steps`."))
        if num_batches == 0:
            raise DataError(N_("The DataLoader has no batches. Give it rows to train on."))
        self.total_steps = config.max_steps or math.ceil(
            config.num_epochs * math.ceil((num_batches or 1) / self.accumulation)
        )
        self._num_batches = num_batches or self.total_steps * self.accumulation

    def num_in(self, epoch: int) -> int:
        """Of a loader without a length, those of the whole run."""
        return self._num_batches

    def windows(self, epoch: int, first_batch: int) -> Generator[list[Batch], None, None]:
        batches = iter(skip_first_batches(self._loader, first_batch) if first_batch else self._loader)
        for begin in range(first_batch, self._num_batches, self.accumulation):
            window = list(islice(batches, min(self.accumulation, self._num_batches - begin)))
            if not window:  # a stream has ended
                return
            for batch in window:
                refuse_no_batch(batch)
            yield window


class EvalBatches:
    """The held-back rows in their order, made ahead of the pass that needs them."""

    def __init__(self, rows: Any, collate: Collate, batch_size: int) -> None:
        self._rows, self._collate, self._batch_size = rows, collate, batch_size

    def __len__(self) -> int:
        return math.ceil(len(self._rows) / self._batch_size)

    def __iter__(self) -> Generator[Batch, None, None]:
        """Whoever stops before the last closes it."""
        return made_ahead(self._batches(), EVAL_BATCHES_AHEAD)

    def _batches(self) -> Generator[Batch, None, None]:
        for begin in range(0, len(self._rows), self._batch_size):
            numbers = range(begin, min(begin + self._batch_size, len(self._rows)))
            yield pinned(self._collate(rows_at(self._rows, numbers)))


def rows_at(rows: Any, numbers: Sequence[int]) -> list[Features]:
    """Those of a data set, all at once where it can."""
    if hasattr(rows, "__getitems__"):
        return list(rows.__getitems__(list(numbers)))
    return [rows[number] for number in numbers]


def by_length(window: Sequence[Sequence[Features]]) -> list[list[Features]]:
    """The rows of an optimizer step, the longest in the first batch and so on; batches of the same sizes."""
    rows = iter(sorted(chain.from_iterable(window), key=lambda row: -len(row["input_ids"])))
    return [list(islice(rows, len(batch))) for batch in window]


def accumulation_steps(config: TrainingConfig, batch_size: int) -> int:
    """Forward passes per optimizer step, so that `target_batch_size` rows go into each."""
    return max((config.target_batch_size or batch_size) // batch_size, 1)


def refuse_no_batch(batch: Any) -> None:
    """Raise `DataError` for what is not a batch that a causal model trains on."""
    missing = [
        key for key in BATCH_KEYS if not isinstance(batch, Mapping) or not isinstance(batch.get(key), torch.Tensor)
    ]
    if missing:
        raise DataError(
            N_(
                "A batch of the DataLoader lacks {keys}. Each must be a dict of input_ids, attention_mask and labels, all tensors."
            ),
            keys=", ".join(missing),
        )
