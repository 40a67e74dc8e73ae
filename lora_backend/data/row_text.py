"""Rows as a person reads and edits them: JSON with line breaks, or the text of a line that is none."""

from __future__ import annotations

import json
from pathlib import Path

from lora_backend.data.raw_rows import RawRow
from lora_backend.data.source_files import find_source
from lora_backend.data.unpacking import open_unpacked
from lora_backend.errors import DataError
from lora_backend.i18n import N_

MOST_TYPED = 200_000
"""Letters of a row that can be edited in a field of a page."""


def typed_row(path: Path, row: RawRow, split: str | None = None) -> str:
    """The row to be edited. Raises `DataError` for one that is too long for a field, or is no text."""
    if row.values is not None:
        text = json.dumps(row.values, ensure_ascii=False, indent=2, default=str)
    else:
        text = line_of(path, row, split) or "{}"
    if len(text) > MOST_TYPED:
        raise DataError(
            N_("Row {row} has {count} characters, too many to edit on a page. Leave it out, or edit the file."),
            row=row.number,
            count=f"{len(text):,}",
        )
    return text


def line_of(path: Path, row: RawRow, split: str | None = None) -> str | None:
    """The text of a row that could not be read; None where its file is no JSONL, so that no line is a row."""
    if row.line is None:
        return None
    file = next((file for file in find_source(path, split).files if file.name == row.file), None)
    if file is None or file.kind != "jsonl":
        return None
    with open_unpacked(file.path) as stream:
        for _ in range(row.line - 1):
            stream.readline()
        line = stream.readline(MOST_TYPED * 4)
    return line.decode("utf-8", "replace").strip("\r\n")
