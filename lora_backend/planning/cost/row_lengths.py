"""How long the rows of a data set are, in tokens, and how large the batches that come of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from lora_backend.data.line_packing import pack_lines
from lora_backend.planning.cost.profile import Profile
from lora_backend.planning.cost.scaling import EXPONENTS, Size, Vector

DRAWN = 256
"""Batches that are looked at: the mean of so many is within a few per cent whatever the lengths are."""

MOST_ROWS = 4096
"""Of a batch; with more, the longest row is in it anyway."""

Sharing = Literal["flat", "padded", "packed"]
"""How rows share a forward pass."""


@dataclass(frozen=True)
class RowLengths:
    """Tokens of the rows that were looked at, before any is cut, and how many rows there are in all."""

    tokens: tuple[int, ...]
    num_rows: int

    def cut(self, max_length: int) -> tuple[int, ...]:
        """As they are trained on."""
        return tuple(min(tokens, max_length) for tokens in self.tokens)

    def mean(self, max_length: int) -> float:
        """Tokens of a row, on average."""
        return float(np.mean(self.cut(max_length)))

    def mean_row(self, sharing: Sharing, rows: int, max_length: int) -> float:
        """Tokens of a row on average, with those that its batch of so many rows pads it by."""
        return float(self._longest(rows, max_length).mean()) if sharing == "padded" else self.mean(max_length)

    def mean_batch(self, sharing: Sharing, rows: int, max_length: int) -> float:
        """Tokens that go through the model in a pass, on average; of packed rows `rows` are the lines."""
        row = self.mean(max_length) * self.rows_in_line(max_length) if sharing == "packed" else None
        return rows * (self.mean_row(sharing, rows, max_length) if row is None else row)

    def rows_in_line(self, max_length: int) -> float:
        """Rows that a line of `max_length` tokens holds on average, as training packs them."""
        rows = self.cut(max_length)
        rows *= max(min(self.num_rows, MOST_ROWS) // len(rows), 1)  # a few rows fill lines worse than all of them
        return len(rows) / len(pack_lines(rows, max_length))

    def mean_monomials(self, profile: Profile, sharing: Sharing, rows: int, max_length: int, rank: int) -> Vector:
        """The mean over batches of what bytes and operations of a model are sums of.

        Without padding a batch is the sum of its rows, and so its mean that of single rows: linear layers go by the sum of
        the lengths, attention by that of their squares.
        """
        if sharing == "padded":
            longest, counts = np.unique(self._longest(rows, max_length), return_counts=True)
            values = np.stack([profile.monomials(Size(rows, int(tokens), rank)) for tokens in longest])
            return np.asarray(counts @ values / counts.sum())
        lengths, counts = np.unique(self.cut(max_length), return_counts=True)
        values = np.stack([profile.monomials(Size(1, int(tokens), rank)) for tokens in lengths])
        in_a_pass = self.mean_batch(sharing, rows, max_length) / self.mean(max_length)
        return np.asarray(counts @ values / counts.sum() * in_a_pass ** np.array(EXPONENTS)[:, 0])

    def _longest(self, rows: int, max_length: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        """The longest row of each of some batches; always the same for the same rows."""
        lengths = np.array(self.cut(max_length))
        drawn = np.random.default_rng(0).choice(lengths, size=(DRAWN, min(rows, MOST_ROWS)))
        return np.asarray(drawn.max(axis=1))
