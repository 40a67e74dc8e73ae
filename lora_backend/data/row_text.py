"""Rows as their file has them, by number: to show and to edit them one by one."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lora_backend.data.edited_rows import lines_of
from lora_backend.data.rows import parse_rows
from lora_backend.errors import DataError
from lora_backend.i18n import Message


@dataclass(frozen=True)
class RowText:
    """One row: its text, and what it holds or why that cannot be told."""

    number: int
    """From 1."""
    text: str
    values: Mapping[str, Any] | None
    problem: Message | None = None

    def as_typed(self) -> str:
        """With line breaks for a person; as it is where it is no JSON."""
        if self.values is None:
            return self.text
        return json.dumps(self.values, ensure_ascii=False, indent=2)


def rows_by_number(source: Path, numbers: Collection[int]) -> Iterator[RowText]:
    """These rows of a file, in order; what is beyond its end is left out. Raises `DataError` where it cannot be read."""
    last = max(numbers, default=0)
    wanted = set(numbers)
    for number, line, _ in lines_of(source):
        if number in wanted:
            yield _row(number, line, source.name)
        if number >= last:
            return


def _row(number: int, line: bytes, file: str) -> RowText:
    text = line.decode("utf-8", "replace").strip("\r\n")
    try:
        ((_, values),) = parse_rows([line], file)
    except DataError as error:
        return RowText(number, text, None, error.message)
    return RowText(number, text, values)
