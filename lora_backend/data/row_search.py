"""Look for a text in rows as their file has them: for who has no model whose tokenizer would be asked."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable

from lora_backend.data.raw_rows import RawRow

MOST_FOUND = 50
LONGEST_S = 3.0
"""After which the search ends with what it has found."""


def rows_with(text: str, rows: Iterable[RawRow]) -> tuple[list[int], bool]:
    """Numbers of the first rows that hold the text, whatever the case, and whether every row was looked at."""
    found: list[int] = []
    wanted, until = text.casefold(), time.monotonic() + LONGEST_S
    for row in rows:
        if row.values is not None and wanted in json.dumps(row.values, ensure_ascii=False, default=str).casefold():
            if len(found) == MOST_FOUND:
                return found, False
            found.append(row.number)
        if time.monotonic() > until:
            return found, False
    return found, True
