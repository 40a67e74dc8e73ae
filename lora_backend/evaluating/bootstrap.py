"""How sure a figure is: intervals from rows that are drawn again and again, for several columns from the same draws."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from lora_backend.runs.record.evaluation_documents import CONFIDENCE, RESAMPLES, Estimate, finite

SEED = 42
DRAWN_AT_ONCE = 2**22
"""Numbers that are drawn together: 32 MiB."""
FEWEST = 2
"""Rows of which others can be drawn."""

Floats = npt.NDArray[np.float64]


class Ratios(NamedTuple):
    """A figure of every column that is one sum over another, as a loss is, all rows' nats over all rows' tokens."""

    above: Floats
    """Columns × rows."""
    below: Floats
    """Rows; each above 0."""

    def estimates(self, report: Callable[[float], None] = lambda _: None) -> tuple[list[Estimate], list[Estimate]]:
        """Each column's figure, and its difference to that of the first column, with their 95 % intervals.

        The percentile interval of the bootstrap (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13):
        10,000 times as many rows are drawn as there are, with replacement, and the figure taken of each draw. All columns
        are taken of the same draws, so the difference is a paired one (Koehn, Statistical Significance Tests for Machine
        Translation Evaluation, EMNLP 2004). Seeded: the same rows give the same intervals. `report` hears how much is done.
        """
        values = self.above.sum(axis=1) / self.below.sum()
        differences = values - values[0]
        if self.below.size < FEWEST:
            return [Estimate(value=float(one)) for one in values], [Estimate(value=float(one)) for one in differences]
        drawn = self._drawn(report)
        return _with_intervals(values, drawn), _with_intervals(differences, drawn - drawn[:1])

    def _drawn(self, report: Callable[[float], None]) -> Floats:
        """Columns × resamples: the figure of every draw."""
        generator, num_rows = np.random.default_rng(SEED), self.below.size
        stacked = np.vstack([self.above, self.below]).T
        drawn = np.empty((len(self.above), RESAMPLES))
        at_once = max(DRAWN_AT_ONCE // num_rows, 1)
        for begin in range(0, RESAMPLES, at_once):
            end = min(begin + at_once, RESAMPLES)
            places = generator.integers(0, num_rows, (end - begin, num_rows))
            places += np.arange(end - begin)[:, None] * num_rows
            counts = np.bincount(places.ravel(), minlength=(end - begin) * num_rows).reshape(end - begin, num_rows)
            sums = counts @ stacked
            drawn[:, begin:end] = (sums[:, :-1] / sums[:, -1:]).T
            report(end / RESAMPLES)
        return drawn


def _with_intervals(values: Floats, drawn: Floats) -> list[Estimate]:
    tail = (1 - CONFIDENCE) / 2
    lows, highs = np.quantile(drawn, [tail, 1 - tail], axis=1)
    return [
        Estimate(value=float(value), low=finite(float(low)), high=finite(float(high)))
        for value, low, high in zip(values, lows, highs, strict=True)
    ]
