"""The examples of a data set by their number: good rows only, whatever form and files they are written in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lora_backend.data.data_report import MOST_NAMED, BadRow, RowNote
from lora_backend.data.example_scan import Scan, scan_rows
from lora_backend.data.examples import Example
from lora_backend.data.forms import LOOKED_AT, DataFormat, FoundForm, find_form
from lora_backend.data.raw_rows import RawRow, too_many_bad
from lora_backend.data.row_file import RowFile, no_room, open_row_file, preview_rows
from lora_backend.data.row_index import Report
from lora_backend.data.unpacking import MOST_UNPACKED_BYTES
from lora_backend.errors import DataError, FlightdeckError
from lora_backend.i18n import N_

SHARE_OF_INDEX = 0.3
"""Of the time that a first look takes."""
SEARCHED = 1000
"""Rows among which some that can be read are looked for."""


class ExampleFile:
    """Every good row of a data set as an example, read when it is asked for. Threads and forks may share one."""

    def __init__(self, rows: RowFile, form: FoundForm, scan: Scan) -> None:
        self.rows = rows
        """All of them, bad ones too."""
        self.found_form = form
        self.scan = scan
        self._before = scan.left_out - np.arange(len(scan.left_out), dtype=np.uint64)

    def __len__(self) -> int:
        return len(self.rows) - len(self.scan.left_out)

    def __getitem__(self, index: int) -> Example:
        """Example `index`, from 0 over the good rows. Raises `DataError` where its file was changed meanwhile."""
        return self.found_form.example(self.rows.raw(self._place(index)))

    def __iter__(self) -> Iterator[Example]:
        """Every example in order, faster than one by one."""
        left_out = iter(self.scan.left_out.tolist())
        skipped = next(left_out, None)
        for place, row in enumerate(self.rows):
            if place == skipped:
                skipped = next(left_out, None)
            else:
                yield self.found_form.example(row.checked())

    def row_number(self, index: int) -> int:
        """Which row of the data set example `index` is, from 1."""
        return self._place(index) + 1

    def largest(self, count: int) -> list[int]:
        """The examples whose rows have the most bytes, the largest first; fewer where bad rows are among these."""
        left_out = self.scan.left_out
        places = np.array(self.rows.largest(count), np.uint64)
        before = np.searchsorted(left_out, places)
        is_out = np.isin(places, left_out)
        return [int(place - done) for place, done, out in zip(places, before, is_out, strict=True) if not out]

    @property
    def sha256(self) -> str:
        """Of the bytes of its files."""
        return self.rows.sha256

    @property
    def bad_rows(self) -> list[BadRow]:
        """The first hundred."""
        return [self.rows.row(place).bad(message) for place, message in self.scan.bad]

    @property
    def num_bad_rows(self) -> int:
        return self.scan.num_bad

    @property
    def notes(self) -> list[RowNote]:
        """What is to be said of its rows, bad ones and good ones."""
        return self.scan.notes

    @property
    def num_duplicates(self) -> int:
        """Rows that an earlier one is equal to."""
        return len(self.scan.equal)

    def in_both(self, held_back: npt.NDArray[np.int64]) -> RowNote | None:
        """The rows among those held out, by their places among the good ones, that are trained on as well."""
        if not len(self.scan.equal):
            return None
        rows, first = self.scan.equal.T
        known = np.unique(self.scan.equal)
        places = np.sort(np.array([self._place(int(index)) for index in held_back], np.uint64))
        is_held = np.isin(known, places)
        group_of = dict(zip(rows.tolist(), first.tolist(), strict=True))
        trained = {group_of.get(row, row) for row in known[~is_held].tolist()}
        both = [row + 1 for row in known[is_held].tolist() if group_of.get(row, row) in trained]
        return RowNote(code="in_both_splits", count=len(both), rows=both[:MOST_NAMED]) if both else None

    def close(self) -> None:
        """Close its files."""
        self.rows.close()

    def _place(self, index: int) -> int:
        if not 0 <= index < len(self):
            raise IndexError(index)
        if not len(self._before):
            return index
        return index + int(np.searchsorted(self._before, np.uint64(index), side="right"))


def open_examples(
    path: Path,
    kept: Path,
    data_format: DataFormat | None = None,
    data_columns: Mapping[str, str] | None = None,
    max_bad_rows: int | None = 0,
    report: Report = lambda _: None,
    *,
    split: str | None = None,
    most_bytes: int = MOST_UNPACKED_BYTES,
    name: str | None = None,
) -> ExampleFile:
    """The examples of the data set at `path`; `kept` is a folder in which is kept what a first look finds.

    Raises `DataError` for what is no data set, for one without a good row, and where more rows are bad than
    `max_bad_rows` (None: however many). `report` hears how much is done, from 0 to 1. `name`: what a file is called.
    """
    rows = open_row_file(
        path, kept, lambda share: report(share * SHARE_OF_INDEX), split=split, most_bytes=most_bytes, name=name
    )
    name = name or path.name
    if not len(rows):
        raise DataError(N_("The data set {file} is empty: it has no rows."), file=name)
    form = _form_of(rows, data_format, data_columns, name)
    try:
        scan = scan_rows(rows, form, rows.kept, lambda share: report(SHARE_OF_INDEX + share * (1 - SHARE_OF_INDEX)))
    except OSError as error:
        if isinstance(error, FlightdeckError):
            raise
        raise no_room(rows.source, rows.kept, error) from error
    found = ExampleFile(rows, form, scan)
    if max_bad_rows is not None and scan.num_bad > max_bad_rows:
        raise too_many_bad(found.bad_rows, scan.num_bad, max_bad_rows)
    if max_bad_rows is not None and not len(found):
        raise DataError(N_("No row of {file} is left to train on."), file=name)
    return found


def _form_of(
    rows: RowFile, data_format: DataFormat | None, data_columns: Mapping[str, str] | None, file: str
) -> FoundForm:
    readable = (row for row in islice(rows, SEARCHED) if row.values is not None)
    looked_at = list(islice(readable, LOOKED_AT))
    if not looked_at:  # which says what is wrong with them
        bad = [row.bad(row.problem) for row in islice(rows, MOST_NAMED) if row.problem is not None]
        raise too_many_bad(bad, sum(row.problem is not None for row in rows), 0)
    return find_form(looked_at, data_format, data_columns, file)


def preview_examples(
    path: Path,
    count: int,
    data_format: DataFormat | None = None,
    data_columns: Mapping[str, str] | None = None,
    *,
    split: str | None = None,
) -> tuple[FoundForm, list[RawRow]]:
    """The form of a data set and its first rows, without reading the rest of it. Raises `DataError`."""
    rows = preview_rows(path, max(count, LOOKED_AT), split=split)
    return find_form(rows, data_format, data_columns, path.name), rows[:count]
