"""Rows of CSV and TSV, read by Python's own reader in its strict way."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import BinaryIO

from lora_backend.data.raw_rows import MAX_ROW_BYTES, RawRow
from lora_backend.errors import DataError
from lora_backend.i18n import N_, Message

DELIMITERS = ",;\t|"


def delimited_rows(stream: BinaryIO, file: str, delimiter: str | None = None) -> Iterator[RawRow]:
    """Each row under the names in the first line. Raises `DataError` for a wrong quote, which takes other rows with it.

    `delimiter` None: the one of `DELIMITERS` that the first line has most often.
    """
    csv.field_size_limit(MAX_ROW_BYTES)
    text = io.TextIOWrapper(stream, "utf-8-sig", newline="")
    try:
        lines = _Lines(text, file)
        if not lines.first:
            return
        delimiter = delimiter or max(DELIMITERS, key=lines.first.count)
        reader = csv.reader(lines, delimiter=delimiter, strict=True)
        names = _names(_next(reader, lines, file), file)
        number = 0
        while True:
            before = reader.line_num
            try:
                cells = _next(reader, lines, file)
            except StopIteration:
                return
            if not cells:  # a blank line
                continue
            number += 1
            if len(cells) == len(names):
                yield RawRow(number, before + 1, file, dict(zip(names, cells, strict=True)))
            else:
                yield RawRow(number, before + 1, file, None, _another_width(len(cells), len(names)))
    finally:
        text.detach()  # the stream is whoever's who opened it


def _another_width(cells: int, columns: int) -> Message:
    return Message(
        N_("it has {cells} cells and the first line {columns}; put a cell with a comma or line break in quotes"),
        {"cells": cells, "columns": columns},
    )


class _Lines:
    """The lines of a text, the first of which is known before it is read."""

    def __init__(self, text: io.TextIOWrapper, file: str) -> None:
        self._text, self._file, self._number = text, file, 0
        self.first = self._read()
        self._waiting: str | None = self.first

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line, self._waiting = self._waiting if self._waiting is not None else self._read(), None
        if not line:
            raise StopIteration
        return line

    def _read(self) -> str:
        self._number += 1
        try:
            return self._text.readline(MAX_ROW_BYTES + 1)
        except UnicodeDecodeError:
            raise DataError(
                N_("{file} is not UTF-8, from about line {line} on. Save the file as UTF-8."),
                file=self._file,
                line=self._number,
            ) from None


def _next(reader: Iterator[list[str]], lines: _Lines, file: str) -> list[str]:
    """The next row. A quote that is never closed, or has text behind it, swallows what follows: nothing is left to trust."""
    begins = reader.line_num + 1  # type: ignore[attr-defined]
    try:
        return next(reader)
    except csv.Error as error:
        raise DataError(
            N_(
                "Line {line} of {file} has a wrong quote ({reason}). Put cells with quotes in quotes, and write each quote inside twice."
            ),
            line=begins,
            file=file,
            reason=str(error),
        ) from None


def _names(cells: list[str], file: str) -> list[str]:
    names = [cell.strip() for cell in cells]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise DataError(
            N_("The first line of {file} names the column {name} twice. The first line must name every column."),
            file=file,
            name=twice,
        )
    return names
