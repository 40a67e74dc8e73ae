"""How long the rows of a data set are, in tokens, and how large the batches that come of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lora_backend.planning.cost.profile import Profile
from lora_backend.planning.cost.scaling import Size, Vector

DRAWN = 256
"""Batches that are looked at: the mean of so many is within a few per cent whatever the lengths are."""

MOST_ROWS = 4096
"""Of a batch; with more, the longest row is in it anyway."""


@dataclass(frozen=True)
class RowLengths:
    """Tokens of the rows that were looked at, before any is cut, and how many rows there are in all."""

    tokens: tuple[int, ...]
    num_rows: int

    def cut(self, max_length: int) -> tuple[int, ...]:
        """As they are trained on."""
        return tuple(min(tokens, max_length) for tokens in self.tokens)

    def mean_padded(self, rows: int, max_length: int) -> float:
        """Tokens that a row has on average once its batch is padded to the longest in it."""
        return float(self._longest(rows, max_length).mean())

    def mean_monomials(self, profile: Profile, rows: int, max_length: int, rank: int) -> Vector:
        """The mean over batches of what bytes and operations of a model are sums of."""
        longest, counts = np.unique(self._longest(rows, max_length), return_counts=True)
        values = np.stack([profile.monomials(Size(rows, int(tokens), rank)) for tokens in longest])
        return np.asarray(counts @ values / counts.sum())

    def _longest(self, rows: int, max_length: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        """The longest row of each of some batches; always the same for the same rows."""
        lengths = np.array(self.cut(max_length))
        drawn = np.random.default_rng(0).choice(lengths, size=(DRAWN, min(rows, MOST_ROWS)))
        return np.asarray(drawn.max(axis=1))
