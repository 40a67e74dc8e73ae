"""Which rows an epoch trains on, and in which order: it follows from the seed, the shares and the epoch's number alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from lora_backend.config.named_data import rows_of_epoch

Rows = np.ndarray[tuple[int], np.dtype[np.int32]]
"""Numbers of rows, from 0; four bytes each, for a set may have millions."""


@dataclass(frozen=True)
class SharedRows:
    """The rows of one set that are trained on, and how often each comes in an epoch."""

    rows: Rows
    share: float = 1

    @property
    def num_in_epoch(self) -> int:
        return rows_of_epoch(len(self.rows), self.share)

    @property
    def has_same_rows(self) -> bool:
        """Whether each epoch takes the same of them, in whatever order."""
        return self.num_in_epoch % len(self.rows) == 0

    def of(self, epoch: int, seed: int) -> Rows:
        """A share of 0.5 takes one half in one epoch and the other in the next: epochs follow each other through
        shufflings of all rows, one behind the other."""
        number, size = len(self.rows), self.num_in_epoch
        if self.has_same_rows:
            return self.rows if size == number else np.tile(self.rows, size // number)
        begin, parts = epoch * size, []
        while begin < (epoch + 1) * size:
            round_, place = divmod(begin, number)
            end = min(number, place + (epoch + 1) * size - begin)
            parts.append(self.rows[np.random.default_rng((seed, round_)).permutation(number)[place:end]])
            begin += end - place
        return np.concatenate(parts)


class EpochOrder:
    """The rows of each epoch in the order in which they are trained."""

    def __init__(self, sets: Sequence[SharedRows], seed: int) -> None:
        self._sets, self.seed = [one for one in sets if one.num_in_epoch], seed

    @classmethod
    def of_all(cls, num_rows: int, seed: int) -> EpochOrder:
        """Each row of one set once."""
        return cls([SharedRows(np.arange(num_rows, dtype=np.int32))], seed)

    def __len__(self) -> int:
        return sum(one.num_in_epoch for one in self._sets)

    @property
    def has_same_rows(self) -> bool:
        """Whether each epoch has the same rows, in whatever order."""
        return all(one.has_same_rows for one in self._sets)

    def of(self, epoch: int) -> Rows:
        """The rows of an epoch, from 0, in their order."""
        parts = [one.of(epoch, self.seed) for one in self._sets]
        rows = parts[0] if len(parts) == 1 else np.concatenate(parts)
        chance = torch.Generator().manual_seed(self.seed + epoch)
        found: Rows = rows[torch.randperm(len(rows), generator=chance, dtype=torch.int32).numpy()]
        return found
