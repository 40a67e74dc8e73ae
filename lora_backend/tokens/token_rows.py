"""The rows of a start's data sets in tokens: of a small set all beforehand, of a large one when a batch asks for them."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, islice

import numpy as np
import numpy.typing as npt

from lora_backend.data.example_file import ExampleFile
from lora_backend.data.examples import Example
from lora_backend.errors import DataError
from lora_backend.i18n import N_, Plural
from lora_backend.modeling.loss import IGNORED
from lora_backend.tokens.epoch_order import Rows
from lora_backend.tokens.labels import Labelled, Labeller, RowRefused
from lora_backend.tokens.row_counts import RowCounts

logger = logging.getLogger(__name__)

AT_ONCE = 512
"""Rows that are labelled together."""
MOST_KEPT_ROWS, MOST_KEPT_BYTES = 50_000, 64 * 2**20
"""Of sets that are labelled beforehand; larger ones are labelled batch by batch."""
MOST_TRIED = 1000
"""Rows behind one that teaches nothing among which another is looked for."""
TRIED_AS_LONGEST = 64
"""Rows with the most bytes of a large set, among which the longest batch is looked for."""
FIRST_TOLD = 1000
"""Rows of a large set after which the log says what was counted; then after twice as many, and so on."""


@dataclass(frozen=True, slots=True)
class PackedRow:
    """A row in tokens as it is kept: five bytes a token, where a list of numbers has thirty."""

    ids: npt.NDArray[np.int32]
    is_trained: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, row: Labelled) -> PackedRow:
        return cls(np.array(row.input_ids, np.int32), np.array(row.labels, np.int32) != IGNORED)

    def features(self) -> dict[str, list[int]]:
        """As a batch is made of it."""
        labels = np.where(self.is_trained, self.ids, IGNORED)
        return {"input_ids": self.ids.tolist(), "attention_mask": [1] * len(self.ids), "labels": labels.tolist()}


class TokenRows:
    """Rows of several sets, numbered through from 0 in the sets' order, bad ones left out.

    A row of which no token would be trained is never trained: a set that is labelled beforehand leaves it out of
    its epochs (`trainable`); one that is labelled batch by batch has the next row that teaches something in its place,
    so that every batch stays whole and where a resume goes on is still a number.
    """

    def __init__(self, sets: Mapping[str, ExampleFile], labeller: Labeller, *, most_bad: int, is_lazy: bool) -> None:
        """`sets`: by what people call them."""
        self._sets, self._labeller, self._most_bad = list(sets.values()), labeller, most_bad
        self._ends = list(accumulate(map(len, self._sets)))
        self.counts = [RowCounts(name, len(one), labeller.rules.max_length) for name, one in sets.items()]
        self.is_lazy = is_lazy
        self._kept: list[PackedRow | None] = [] if is_lazy else list(self._packed())
        self._told_at = FIRST_TOLD

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, number: int) -> dict[str, list[int]]:
        return self.__getitems__([number])[0]

    def __getitems__(self, numbers: Sequence[int]) -> list[dict[str, list[int]]]:
        """A batch, by which a DataLoader asks for its rows. Raises `DataError` for more rows that the model's template
        refuses than may be bad."""
        found = self._labelled(numbers)
        return [(row or self._next_to(number)).features() for number, row in zip(numbers, found, strict=True)]

    def numbers_of(self, place: int) -> range:
        """Of the rows of set `place`."""
        return range(self._ends[place] - len(self._sets[place]), self._ends[place])

    def trainable(self, numbers: Rows) -> Rows:
        """Those of which something is learned, as far as that is known."""
        if self.is_lazy:
            return numbers
        return numbers[np.fromiter((self._kept[number] is not None for number in numbers), bool, len(numbers))]

    def lengths(self) -> npt.NDArray[np.int32]:
        """Tokens of each row by its number, 0 for one that teaches nothing. Of a set that is labelled beforehand."""
        assert not self.is_lazy
        return np.fromiter((0 if row is None else len(row.ids) for row in self._kept), np.int32, len(self))

    def longest(self, count: int) -> list[int]:
        """Numbers of the rows with the most tokens, of all that are labelled or, of a large set, of those with the most
        bytes."""
        if not self.is_lazy:
            lengths = {number: len(row.ids) for number, row in enumerate(self._kept) if row is not None}
        else:
            tried = [
                numbers[index]
                for place, one in enumerate(self._sets)
                for numbers in (self.numbers_of(place),)
                for index in one.largest(max(count, TRIED_AS_LONGEST))
            ]
            found = zip(tried, self._labelled(tried), strict=True)
            lengths = {number: len(row.ids) for number, row in found if row is not None}
        return sorted(lengths, key=lambda number: (-lengths[number], number))[:count]

    def most_tokens(self) -> int:
        """Of a single row, after the cut."""
        longest = self.longest(1)
        return len(self[longest[0]]["input_ids"]) if longest else 0

    def _packed(self) -> Iterator[PackedRow | None]:
        for place, one in enumerate(self._sets):
            rows, first = iter(one), 0
            while chunk := list(islice(rows, AT_ONCE)):
                yield from self._counted(place, range(first, first + len(chunk)), chunk)
                first += len(chunk)

    def _labelled(self, numbers: Sequence[int]) -> list[PackedRow | None]:
        """Each row, or None for one that teaches nothing."""
        if not self.is_lazy:
            return [self._kept[number] for number in numbers]
        places = np.searchsorted(self._ends, numbers, side="right").tolist()
        found: list[PackedRow | None] = [None] * len(numbers)
        for place in set(places):
            at = [index for index, where in enumerate(places) if where == place]
            within = [numbers[index] - self.numbers_of(place)[0] for index in at]
            rows = self._counted(place, within, [self._sets[place][index] for index in within])
            for index, row in zip(at, rows, strict=True):
                found[index] = row
        return found

    def _counted(self, place: int, within: Sequence[int], examples: Sequence[Example]) -> list[PackedRow | None]:
        one, counts = self._sets[place], self.counts[place]
        found: list[PackedRow | None] = []
        for index, row in zip(within, self._labeller.label(examples), strict=True):
            counts.add(index, one.row_number(index), row)
            if isinstance(row, RowRefused) and one.num_bad_rows + counts.refused.count > self._most_bad:
                raise DataError(
                    N_("Row {row} of {file} cannot be written with the model's chat template: {reason}"),
                    row=one.row_number(index),
                    file=one.rows.place(one.row_number(index) - 1)[0],
                    reason=row.message,
                )
            found.append(None if isinstance(row, RowRefused) or row.is_behind_cut else PackedRow.of(row))
        if self.is_lazy and counts.seen >= self._told_at:
            self._told_at *= 2
            self.log_counts()
        return found

    def log_counts(self) -> None:
        """What was counted so far, exactly."""
        for counts in self.counts:
            counts.log()

    def _next_to(self, number: int) -> PackedRow:
        """The next row of the same set of which something is learned, from the beginning again behind the last."""
        numbers = next(one for place in range(len(self._sets)) if number in (one := self.numbers_of(place)))
        for step in range(1, min(MOST_TRIED, len(numbers))):
            (row,) = self._labelled([numbers[(number - numbers[0] + step) % len(numbers)]])
            if row is not None:
                return row
        raise DataError(
            Plural(
                "{count} row in a row has nothing left to learn within `max_length` {limit}. Raise `max_length`, or shorten the rows.",
                "{count} rows in a row have nothing left to learn within `max_length` {limit}. Raise `max_length`, or shorten the rows.",
            ),
            count=min(MOST_TRIED, len(numbers)),
            limit=self._labeller.rules.max_length,
        )


def is_large(sets: Collection[ExampleFile]) -> bool:
    """Whether the tokens of all rows are too many to be kept."""
    rows, size = sum(map(len, sets)), sum(one.rows.size_bytes for one in sets)
    return rows > MOST_KEPT_ROWS or size > MOST_KEPT_BYTES
