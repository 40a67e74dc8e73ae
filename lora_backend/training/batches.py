"""The batches of every epoch, in an order that follows from the seed and the epoch's number alone."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

import torch
from accelerate import Accelerator, skip_first_batches
from torch.utils.data import DataLoader, Sampler
from transformers import DataCollatorForSeq2Seq
from transformers.trainer_utils import has_length

from lora_backend.config.schema import TrainingConfig
from lora_backend.errors import ConfigError, DataError
from lora_backend.i18n import N_
from lora_backend.tokens.epoch_order import EpochOrder

BATCH_KEYS = ("input_ids", "attention_mask", "labels")
Batch = Mapping[str, torch.Tensor]


class EpochSampler(Sampler[list[int]]):
    """Indices of an epoch's rows, a list for each batch; can begin at any batch of any epoch."""

    def __init__(self, order: EpochOrder, batch_size: int) -> None:
        self.order, self.batch_size = order, batch_size
        self.epoch = self.first_batch = 0

    def __iter__(self) -> Iterator[list[int]]:
        rows = self.order.of(self.epoch)
        for begin in range(self.first_batch * self.batch_size, len(rows), self.batch_size):
            yield rows[begin : begin + self.batch_size].tolist()

    def __len__(self) -> int:
        return math.ceil(len(self.order) / self.batch_size)


class TrainBatches:
    """The training rows, or a caller's own DataLoader, and how many batches and steps that makes."""

    def __init__(
        self, loader: DataLoader[Any], batch_size: int, config: TrainingConfig, sampler: EpochSampler | None = None
    ) -> None:
        self._loader, self._sampler, self.batch_size = loader, sampler, batch_size
        self.accumulation = accumulation_steps(config, batch_size)
        num_batches = len(loader) if has_length(loader) else None
        if num_batches is None and not config.max_steps:
            raise ConfigError(N_("The DataLoader has no length, so its epochs cannot be counted. Set `max_steps`."))
        if num_batches == 0:
            raise DataError(N_("The DataLoader has no batches. Give it rows to train on."))
        self.total_steps = config.max_steps or math.ceil(
            config.num_epochs * math.ceil((num_batches or 1) / self.accumulation)
        )
        self.per_epoch = num_batches or self.total_steps * self.accumulation
        """Batches; of a loader without a length, those of the whole run."""

    @classmethod
    def of_rows(
        cls, rows: Any, order: EpochOrder, collator: DataCollatorForSeq2Seq, config: TrainingConfig
    ) -> TrainBatches:
        sampler = EpochSampler(order, config.batch_size)
        # A generator of its own: a loader draws a seed for its workers at each epoch, also where it has none.
        return cls(
            _loader(rows, collator, batch_sampler=sampler, generator=torch.Generator()),
            config.batch_size,
            config,
            sampler,
        )

    @classmethod
    def of_caller(cls, loader: DataLoader[Any], config: TrainingConfig, accelerator: Accelerator) -> TrainBatches:
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
        return cls(accelerator.prepare(loader), batch_size or config.batch_size, config)

    def windows(self, epoch: int, first_batch: int) -> Iterator[list[Batch]]:
        """The batches of each optimizer step of an epoch, from its batch `first_batch` on, in host memory."""
        if self._sampler is not None:
            self._sampler.epoch, self._sampler.first_batch = epoch, first_batch
            batches = iter(self._loader)
        else:
            batches = iter(skip_first_batches(self._loader, first_batch) if first_batch else self._loader)
        for begin in range(first_batch, self.per_epoch, self.accumulation):
            window = list(islice(batches, min(self.accumulation, self.per_epoch - begin)))
            if not window:  # a stream has ended
                return
            for batch in window:
                refuse_no_batch(batch)
            yield window


def eval_batches(rows: Any, collator: DataCollatorForSeq2Seq, batch_size: int) -> DataLoader[Any]:
    """The held-back rows, in their order."""
    return _loader(rows, collator, batch_size=batch_size)


def _loader(rows: Any, collator: DataCollatorForSeq2Seq, **how: Any) -> DataLoader[Any]:
    return DataLoader(rows, collate_fn=collator, pin_memory=torch.cuda.is_available(), **how)


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
