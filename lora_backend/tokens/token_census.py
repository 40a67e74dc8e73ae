"""What becomes of rows as they are labelled: counted for the data page, for `data`, and for a run's log alike."""

from __future__ import annotations

import math
from array import array
from collections.abc import Collection, Iterator

import numpy as np

from lora_backend.data.data_report import NoteCode, RowNote, TokenCounts, note_of
from lora_backend.i18n import Message
from lora_backend.modeling.loss import IGNORED
from lora_backend.tokens.labels import Labelled, LabelRules, RowRefused

MOST_BARS = 24
"""Of the histogram; the last holds the few rows that are much longer than all others."""
MOST_QUANTILES = 400
LONG_TAIL = 0.995
STEPS = (1, 2, 2.5, 4, 5, 10)


Numbers = np.ndarray[tuple[int], np.dtype[np.int64]]


def codes_of(row: Labelled | RowRefused) -> Iterator[NoteCode]:
    """What is to be said of a row as it is labelled."""
    if isinstance(row, RowRefused):
        yield "refused"
        return
    if row.is_cut:
        yield "cut"
    if row.is_behind_cut:
        yield "behind_cut" if row.is_cut else "all_prompt"
    elif row.has_lost_end:
        yield "without_end"
    if row.lost_answers:
        yield "lost_answer"


class TokenCensus:
    """Takes labelled rows one after another; keeps some bytes of each."""

    def __init__(self, rules: LabelRules) -> None:
        self._rules = rules
        self._before, self._after, self._trained = array("L"), array("L"), array("L")
        self._found: dict[NoteCode, list[int]] = {}
        self._refusal: Message | None = None

    def add(self, number: int, row: Labelled | RowRefused) -> None:
        """Take the row with this number, from 1."""
        for code in codes_of(row):
            self._found.setdefault(code, []).append(number)
        if isinstance(row, RowRefused):
            self._refusal = self._refusal or row.message
            self._append(0, 0, 0)
            return
        trained = len(row.labels) - row.labels.count(IGNORED)
        self._append(row.num_tokens, len(row.input_ids) if trained else 0, trained)

    def __len__(self) -> int:
        return len(self._before)

    def notes(self) -> list[RowNote]:
        """What is to be said of these rows."""
        notes = [note_of(code, rows) for code, rows in self._found.items()]
        return [note.but(message=self._refusal) if note.code == "refused" else note for note in notes]

    def counts(self, num_rows: int, order: Numbers | None = None, batch_size: int = 1) -> TokenCounts:
        """Of a set of `num_rows`: scaled up where fewer were looked at. `order`: places, from 0, of those that an epoch
        trains on, as its batches take them; all in their order without it."""
        taken = np.arange(len(self)) if order is None else order
        scale = num_rows / len(self) if len(self) else 0.0
        after, trained = _array(self._after)[taken], _array(self._trained)[taken]
        teaches, is_taken = _array(self._after) > 0, np.zeros(len(self), bool)
        is_taken[taken] = True
        edges = bar_edges(_array(self._before), self._rules.max_length)
        return TokenCounts(
            rows=len(self),
            is_estimate=len(self) < num_rows,
            tokens=round(int(after.sum()) * scale),
            trained_tokens=round(int(trained.sum()) * scale),
            longest=max(self._before, default=0),
            max_length=self._rules.max_length,
            truncation=self._rules.truncation,
            quantiles=quantiles_of(_array(self._before)),
            longest_kept=max(self._after, default=0),
            trained_rows=round(int((teaches & is_taken).sum()) * scale),
            held_back_rows=round(int((teaches & ~is_taken).sum()) * scale),
            lengths=_scaled(_in_bars(_array(self._before), edges), scale),
            edges=edges,
            padded_share=padded_share(after[after > 0], batch_size),
            cut=self._scaled_count("cut", scale),
            without_end=self._scaled_count("without_end", scale),
            behind_cut=self._scaled_count("behind_cut", scale),
        )

    def _append(self, before: int, after: int, trained: int) -> None:
        self._before.append(before)
        self._after.append(after)
        self._trained.append(trained)

    def _scaled_count(self, code: NoteCode, scale: float) -> int:
        return round(len(self._found.get(code, ())) * scale)


def padded_share(lengths: Numbers, batch_size: int) -> float:
    """Of the tokens of batches that are each as long as their longest row, those that only fill up."""
    if not len(lengths):
        return 0.0
    begins = np.arange(0, len(lengths), batch_size)
    longest = np.maximum.reduceat(lengths, begins)
    rows = np.minimum(begins + batch_size, len(lengths)) - begins
    return 1.0 - int(lengths.sum()) / int((longest * rows).sum())


def quantiles_of(lengths: Numbers) -> list[int]:
    """In their order, at most so many as a plan looks at."""
    counted = np.sort(lengths[lengths > 0])
    if len(counted) > MOST_QUANTILES:
        counted = counted[np.linspace(0, len(counted) - 1, MOST_QUANTILES).round().astype(np.int64)]
    return counted.tolist()


def bar_edges(lengths: Numbers, max_length: int) -> list[int]:
    """Round numbers of tokens up to the longest row; `max_length` is one of them where it cuts anything."""
    counted = lengths[lengths > 0]
    if not len(counted):
        return []
    longest, most = int(counted.max()), int(np.quantile(counted, LONG_TAIL))
    step = _round_step(max(most, 1) / (MOST_BARS - 3))
    edges = set(range(step, most + step, step)) | ({max_length} if max_length < longest else set())
    return [*sorted(edge for edge in edges if edge < longest), longest]


def _round_step(at_least: float) -> int:
    power = 10.0 ** math.floor(math.log10(max(at_least, 1)))
    return math.ceil(next(step * power for step in STEPS if step * power >= at_least))


def _in_bars(lengths: Numbers, edges: Collection[int]) -> list[int]:
    counted = lengths[lengths > 0]
    return np.bincount(np.searchsorted(list(edges), counted), minlength=len(edges)).tolist() if edges else []


def _scaled(numbers: list[int], scale: float) -> list[int]:
    return [round(number * scale) for number in numbers]


def _array(numbers: array[int]) -> Numbers:
    return np.asarray(numbers, np.int64)
