"""Rows of a data set by their number, whatever kind of files it lies in, in bounded memory."""

from __future__ import annotations

import codecs
import hashlib
import json
import os
import tempfile
import threading
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lora_backend.data.raw_rows import MAX_ROW_BYTES, RawRow, too_long
from lora_backend.data.row_index import IndexedFile, Report, changed, indexed, read_source, stamp_of
from lora_backend.data.source_files import Source, SourceFile, find_source
from lora_backend.data.text_rows import parsed, row_of
from lora_backend.data.unpacking import MOST_UNPACKED_BYTES, open_rows
from lora_backend.errors import DataError, FlightdeckError
from lora_backend.i18n import N_, Message

READ_ROWS, READ_BYTES = 256, 8 * 2**20
"""What is read at once of rows in their order."""
SIZES_AT_ONCE = 2**16


class RowFile:
    """All rows of a data set, each read when it is asked for. Threads and forked processes may share one."""

    def __init__(
        self,
        files: list[IndexedFile],
        source: Source,
        kept: Path,
        spare: tempfile.TemporaryDirectory[str] | None = None,
    ) -> None:
        self.source = source
        self.kept = kept
        """Where it is kept what is found of its rows."""
        self._spare = spare  # gone with the last who uses it
        self.sha256 = _together([file.sha256 for file in files])
        """Of the bytes of its file; of several files, of their hashes in their order."""
        self.size_bytes = sum(file.size_bytes for file in files)
        """Of all that rows are read from."""
        self._parts = [_Part(file) for file in files]
        self._ends = list(accumulate(file.num_rows for file in files))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def row(self, index: int) -> RawRow:
        """Row `index`, from 0; a bad one says what is wrong with it. Raises `DataError` where its file was changed."""
        part, within = self._find(index)
        return part.row(within, index + 1)

    def raw(self, index: int) -> Mapping[str, Any]:
        """The values of row `index`. Raises `BadRowError` where it has none."""
        return self.row(index).checked()

    def place(self, index: int) -> tuple[str, int | None]:
        """Name of the file of row `index`, and its line there where it has lines."""
        part, within = self._find(index)
        return part.file.source.name, part.line(within)

    def largest(self, count: int) -> list[int]:
        """The rows with the most bytes, from 0, the largest first."""
        found: list[tuple[int, int]] = []
        before = 0
        for part in self._parts:
            for begin, sizes in part.sizes():
                top = np.argpartition(sizes, -count)[-count:] if len(sizes) > count else np.arange(len(sizes))
                found += [(-int(sizes[at]), before + begin + int(at)) for at in top]
                found = sorted(found)[:count]
            before += part.file.num_rows
        return [row for _, row in found]

    def __iter__(self) -> Iterator[RawRow]:
        """Every row in order, faster than one by one."""
        number = 0
        for part in self._parts:
            for row in part.rows(number):
                number += 1
                yield row

    def close(self) -> None:
        """Close its files. Rows cannot be read afterwards."""
        for part in self._parts:
            part.close()

    def _find(self, index: int) -> tuple[_Part, int]:
        if not 0 <= index < len(self):
            raise IndexError(index)
        at = bisect_right(self._ends, index)
        return self._parts[at], index - (self._ends[at - 1] if at else 0)


class _Part:
    """One file of several; opened when a row of it is asked for."""

    def __init__(self, file: IndexedFile) -> None:
        self.file = file
        self._index = np.memmap(file.index, np.uint64, "r", shape=(file.num_rows + 1, 2))
        self._lock = threading.Lock()
        self._descriptor: int | None = None

    def line(self, within: int) -> int | None:
        return int(self._index[within, 1]) or None

    def row(self, within: int, number: int) -> RawRow:
        begin, end = int(self._index[within, 0]), int(self._index[within + 1, 0])
        data = os.pread(self._opened(), min(end - begin, MAX_ROW_BYTES + 1), begin)
        self._refuse_changed()
        return row_of(self._parsed(data, begin), number, self.line(within), self.file.source.name)

    def sizes(self) -> Iterator[tuple[int, npt.NDArray[np.uint64]]]:
        """Bytes of its rows, some at a time, with the number of the first of them."""
        for begin in range(0, self.file.num_rows, SIZES_AT_ONCE):
            yield begin, np.diff(self._index[begin : begin + SIZES_AT_ONCE + 1, 0])

    def rows(self, before: int) -> Iterator[RawRow]:
        """All of its rows, of a set that has so many before it; what lies together is read together."""
        begin = 0
        while begin < self.file.num_rows:
            places = self._index[begin : begin + READ_ROWS + 1].tolist()
            if places[-1][0] - places[0][0] > READ_BYTES:
                yield self.row(begin, before + begin + 1)
                begin += 1
                continue
            data = os.pread(self._opened(), places[-1][0] - places[0][0], places[0][0])
            self._refuse_changed()
            for at, (start, line) in enumerate(places[:-1]):
                piece = data[start - places[0][0] : places[at + 1][0] - places[0][0]]
                found = self._parsed(piece, start)
                yield row_of(found, before + begin + at + 1, line or None, self.file.source.name)
            begin += len(places) - 1

    def _parsed(self, data: bytes, begin: int) -> dict[str, Any] | Message:
        if self.file.is_own:
            if len(data) > MAX_ROW_BYTES:
                return too_long()
            return parsed((data.removeprefix(codecs.BOM_UTF8) if begin == 0 else data).rstrip())
        value = json.loads(data)  # of our own writing
        return value if isinstance(value, dict) else Message.from_json(value[0])

    def _opened(self) -> int:
        with self._lock:
            if self._descriptor is None:
                with open_rows(self.file.jsonl) as file:
                    self._descriptor = os.dup(file.fileno())
            return self._descriptor

    def _refuse_changed(self) -> None:
        assert self._descriptor is not None
        if self.file.is_own and stamp_of(os.fstat(self._descriptor)) != self.file.stamp:
            raise changed(self.file.source)

    def close(self) -> None:
        with self._lock:
            if self._descriptor is not None:
                os.close(self._descriptor)
                self._descriptor = None

    def __del__(self) -> None:
        self.close()


def open_row_file(
    path: Path,
    kept: Path,
    report: Report = lambda _: None,
    *,
    split: str | None = None,
    most_bytes: int = MOST_UNPACKED_BYTES,
    name: str | None = None,
) -> RowFile:
    """The rows of the data set at `path`, a file or a folder; what is made of them on the way lies in the folder `kept`.

    `report` hears how much is read, from 0 to 1; nothing is where the same content was read before. `split`: which one
    of a folder, by itself `train`; `name`: what one file is called. Raises `DataError` for what is no data set, and for a file that breaks off.
    """
    source = find_source(path, split, name)
    try:
        return RowFile(_indexed(source, kept, report, most_bytes), source, kept)
    except OSError as error:
        if isinstance(error, FlightdeckError):
            raise
    # The cache takes nothing: it is full, or read-only. Then the index is there for as long as it is used.
    try:
        spare = tempfile.TemporaryDirectory(prefix="flightdeck-rows-")
        return RowFile(_indexed(source, Path(spare.name), report, most_bytes), source, Path(spare.name), spare)
    except OSError as error:
        if isinstance(error, FlightdeckError):
            raise
        raise no_room(source, kept, error) from error


def no_room(source: Source, kept: Path, error: OSError) -> DataError:
    """The error where nothing can be written of what is read."""
    return DataError(
        N_("{file} cannot be read: its index cannot be written to {folder} ({reason}). Free some space there."),
        file=source.files[0].name,
        folder=str(kept),
        reason=error.strerror or type(error).__name__,
    )


def _indexed(source: Source, kept: Path, report: Report, most_bytes: int) -> list[IndexedFile]:
    files = []
    for place, file in enumerate(source.files):

        def told(share: float, place: int = place) -> None:
            report((place + share) / len(source.files))

        files.append(indexed(file, kept, told, most_bytes))
    return files


def preview_rows(path: Path, count: int, *, split: str | None = None) -> list[RawRow]:
    """The first rows of a data set, without reading the rest of it. Raises `DataError` where not even these can be read."""
    found: list[RawRow] = []
    for file in find_source(path, split).files:
        for row in read_source(file):
            found.append(row.at(len(found) + 1))
            if len(found) == count:
                return found
    return found


def sha256_of_rows(path: Path, split: str | None = None) -> str:
    """The hash that `RowFile` has, of files that are not looked into. Raises `DataError` where they cannot be read."""
    return _together([_sha256(file) for file in find_source(path, split).files])


def _sha256(file: SourceFile) -> str:
    with open_rows(file.path) as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _together(hashes: list[str]) -> str:
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("\n".join(hashes).encode()).hexdigest()
