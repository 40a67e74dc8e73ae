"""Tables: `st.dataframe` shows text that can be downloaded as CSV, `st.table` reads Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lora_backend.escaping import csv_cell, visible
from pages.parts.shell.markdown import BREAK, escape, unmarked


def frame(rows: Sequence[Mapping[Any, Any]], columns: Sequence[str] | None = None) -> Any:
    """A data frame for `st.dataframe`, a row each; `columns` in their order, where not every row has all."""
    import pandas as pd  # here, so that the first page shows before pandas is loaded

    cells = [{cell(key): cell(value) for key, value in row.items()} for row in rows]
    return pd.DataFrame(cells, columns=None if columns is None else [cell(column) for column in columns])


def cell(value: Any) -> Any:
    """A cell of a data frame: text as it is, which a spreadsheet that it is copied or downloaded to runs as no formula.

    An apostrophe would be seen on the page; a letter without width keeps the formula sign from the front as well.
    """
    if not isinstance(value, str):
        return value
    text = visible(unmarked(value))
    return text if csv_cell(text) == text else BREAK + text


def markdown_cell(value: Any) -> Any:
    """A cell of `st.table`: a text is escaped, a number stays one."""
    return escape(value) if isinstance(value, str) else value


def markdown_frame(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> Any:
    """A data frame for `st.table`, a row each."""
    import pandas as pd

    return pd.DataFrame(
        [[markdown_cell(value) for value in row] for row in rows], columns=[markdown_cell(column) for column in columns]
    )
