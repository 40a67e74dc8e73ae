"""Which rows share a batch in each epoch: as many as `batch_size` says, or as many as fit into lines of tokens."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch

from lora_backend.data.line_packing import pack_lines
from lora_backend.tokens.epoch_order import EpochOrder


class EpochBatches(ABC):
    """Numbers of the rows in each batch of an epoch; they follow from seed and epoch alone, and begin at any batch."""

    def __init__(self, order: EpochOrder) -> None:
        self.order = order

    @abstractmethod
    def num_in(self, epoch: int) -> int:
        """Batches of the epoch."""

    @abstractmethod
    def of(self, epoch: int, first_batch: int) -> Iterator[list[int]]:
        """The rows of each batch from `first_batch` on."""

    @property
    def are_alike(self) -> bool:
        """Whether every epoch has as many batches."""
        return True


class RowBatches(EpochBatches):
    """So many rows each, in the epoch's order; the last may have fewer."""

    def __init__(self, order: EpochOrder, batch_size: int) -> None:
        super().__init__(order)
        self._batch_size = batch_size

    def num_in(self, epoch: int) -> int:
        return math.ceil(len(self.order) / self._batch_size)

    def of(self, epoch: int, first_batch: int) -> Iterator[list[int]]:
        rows = self.order.of(epoch)
        for begin in range(first_batch * self._batch_size, len(rows), self._batch_size):
            yield rows[begin : begin + self._batch_size].tolist()


class LineBatches(EpochBatches):
    """So many lines each, every line filled with whole rows of the epoch.

    Rows are packed anew in each epoch, and the lines are shuffled, for packing puts the longest first.
    """

    def __init__(self, order: EpochOrder, lengths: npt.NDArray[np.int32], most_tokens: int, lines: int) -> None:
        """`lengths`: tokens of each row by its number. `most_tokens`: of a line. `lines`: of a batch."""
        super().__init__(order)
        self._lengths, self._most_tokens, self._lines = lengths, most_tokens, lines
        self._counts: dict[int, int] = {}
        self._packed: tuple[int, list[list[int]]] = (-1, [])

    def num_in(self, epoch: int) -> int:
        key = 0 if self.are_alike else epoch
        if key not in self._counts:
            self._counts[key] = math.ceil(len(self._lines_of(key)) / self._lines)
        return self._counts[key]

    def of(self, epoch: int, first_batch: int) -> Iterator[list[int]]:
        lines = self._lines_of(epoch)
        for begin in range(first_batch * self._lines, len(lines), self._lines):
            yield [row for line in lines[begin : begin + self._lines] for row in line]

    def fullest(self) -> list[int]:
        """Rows of the fullest lines that a batch may have. Where epochs differ, of those of the first."""
        lines = sorted(self._lines_of(0), key=lambda line: -int(self._lengths[line].sum()))
        return [row for line in lines[: self._lines] for row in line]

    @property
    def are_alike(self) -> bool:
        return self.order.has_same_rows

    @property
    def filled(self) -> float:
        """Tokens of the first epoch's rows over those that its lines have room for."""
        lines = self._lines_of(0)
        return float(self._lengths[[row for line in lines for row in line]].sum()) / (self._most_tokens * len(lines))

    def _lines_of(self, epoch: int) -> list[list[int]]:
        kept, lines = self._packed  # taken at once: the thread that makes batches asks too
        if kept != epoch:
            rows = self.order.of(epoch)
            found = pack_lines(self._lengths[rows].tolist(), self._most_tokens)
            chance = torch.Generator().manual_seed(self.order.seed + epoch)
            shuffled = torch.randperm(len(found), generator=chance).tolist()
            lines = [rows[found[line]].tolist() for line in shuffled]
            self._packed = epoch, lines
        return lines
