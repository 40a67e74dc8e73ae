"""A table before anybody prints or draws it: heads and cells as messages and figures, and what each row's colour means."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from lora_backend.i18n import Message
from lora_backend.terminal import aligned

Cell = Message | str | int | float | None
Fill = Literal["", "ok", "changed", "added", "missing", "unknown", "wrong"]
"""What the colour of a row says; a word or a sign in the row says it too."""


@dataclass(frozen=True)
class Table:
    """Rows of as many cells as there are heads. None is a cell without a value."""

    heads: tuple[Message, ...]
    rows: tuple[tuple[Cell, ...], ...]
    fills: tuple[Fill, ...] = ()
    """One for each row; none where no row has a colour."""

    def lines(self) -> Iterator[list[str]]:
        """The heads, then each row, as text in the language that is set."""
        yield [head.text() for head in self.heads]
        for row in self.rows:
            yield [cell_text(cell) for cell in row]

    def text(self, left: int | None = None) -> str:
        """For a terminal or a log: every column as wide as its widest cell, figures from column `left` on at the right."""
        return aligned(list(self.lines()), left)


def cell_text(cell: Cell) -> str:
    """A cell as it is read: a number without zeros that say nothing, a dash where there is none."""
    if cell is None or cell != cell:
        return "–"
    return f"{cell:g}" if isinstance(cell, float) else str(cell)
