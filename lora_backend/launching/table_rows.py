"""The rows of a table as it is pasted or uploaded: titles are keys, cells are read as the keys' types take them."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError

from lora_backend.config.config_text import parse_config
from lora_backend.config.schema import KEYS
from lora_backend.errors import ConfigError
from lora_backend.i18n import N_, Message, Plural

NAME = "name"
"""A column of this title names the run; it is no key of a config."""
MAX_ROWS = 1000
MAX_COLUMNS, MAX_CELLS = 100, 10_000


@dataclass(frozen=True)
class Row:
    """One line of the table: column → cell; an empty cell leaves the base's value."""

    line: int
    """Counted from 1, as an editor does."""
    cells: Mapping[str, str]


def read_table(text: str) -> list[Row]:
    """The rows of a table with titles in its first line: tabs (as pasted from a sheet), semicolons or commas.

    Raises `ConfigError` for a table without titles or rows, with a title twice, or a row with more cells than titles.
    """
    text = text.lstrip("\ufeff")
    separator = max("\t;,", key=next((line for line in text.splitlines() if line.strip()), "").count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    try:
        table = [(reader.line_num, cells) for cells in reader if any(cell.strip() for cell in cells)]
    except csv.Error as error:
        raise ConfigError(N_("The table cannot be read: {reason}."), reason=str(error)) from error
    if len(table) < 2:
        raise ConfigError(N_("The table has no rows. Put the keys in the first line, and one run in each line below."))
    (_, heads), *lines = table
    if len(lines) > MAX_ROWS:
        raise ConfigError(
            N_("The table has {count} rows; the limit is {limit} runs at a time."), count=len(lines), limit=MAX_ROWS
        )
    width = max(_width(cells) for _, cells in table)
    titles = [title.strip() for title in heads[: max(width, 1)]]  # without a sheet's empty columns
    if len(titles) > MAX_COLUMNS or len(titles) * len(lines) > MAX_CELLS:
        raise ConfigError(
            N_(
                "The table has {columns} and {rows}; the limits are {most} columns and {limit} cells. Leave out columns in which every row is the same."
            ),
            columns=Message(Plural("{count} column", "{count} columns"), {"count": len(titles)}),
            rows=Message(Plural("{count} row", "{count} rows"), {"count": len(lines)}),
            most=MAX_COLUMNS,
            limit=MAX_CELLS,
        )
    for position, title in enumerate(titles):
        if not title or title in titles[:position]:
            raise ConfigError(N_("Column {number} of the table has no title, or a duplicate one."), number=position + 1)
    rows = []
    for line, cells in lines:
        if len(cells) > len(titles) and any(cell.strip() for cell in cells[len(titles) :]):
            raise ConfigError(
                Plural(
                    "Line {line} of the table has {cells} cells, but there is {count} column.",
                    "Line {line} of the table has {cells} cells, but there are {count} columns.",
                ),
                line=line,
                cells=len(cells),
                count=len(titles),
            )
        rows.append(
            Row(line, {title: cell.strip() for title, cell in zip(titles, cells, strict=False) if cell.strip()})
        )
    return rows


def _width(cells: Sequence[str]) -> int:
    """Columns up to the last that is not empty."""
    return next((number for number in range(len(cells), 0, -1) if cells[number - 1].strip()), 0)


def cell_value(key: str, cell: str) -> Any:
    """A cell as the key's type takes it: `8` is a number for `r` and a text for `version`; lists as in YAML."""
    parsed = parse_config(f"value: {cell}").values.get("value", cell)
    known = KEYS.get(key)
    if known is None or _fits(known.info, parsed) or not _fits(known.info, cell):
        return parsed
    return cell


def _fits(info: Any, value: Any) -> bool:
    # The field's own bounds are left to the check, whose sentence says what they are.
    adapter: TypeAdapter[Any] = TypeAdapter(info.annotation, config=ConfigDict(strict=True))
    try:
        adapter.validate_python(value)
    except ValidationError:
        return False
    return True
