"""A row as its file has it, before anybody has asked what it means; and what is said of a bad one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from lora_backend.data.data_report import BadRow
from lora_backend.errors import DataError
from lora_backend.formats import size
from lora_backend.i18n import N_, Message

MAX_ROW_BYTES = 16 * 2**20
"""Of one row as JSON: some four million tokens."""


class BadRowError(DataError):
    """A row that cannot be trained on. Its message is the reason alone, a clause that follows the row's place.

    `kind`: the note under which such rows are counted as well, where there is one.
    """

    def __init__(
        self, template: str, /, *, kind: Literal["empty_answer", "all_prompt"] | None = None, **values: Any
    ) -> None:
        super().__init__(template, **values)
        self.kind = kind


@dataclass(frozen=True, slots=True)
class RawRow:
    """One row of a file: its values, or what is wrong with it."""

    number: int
    """From 1, over all rows of the set."""
    line: int | None
    """From 1, where its file has lines."""
    file: str
    """Name of its file."""
    values: Mapping[str, Any] | None
    problem: Message | None = None
    """A clause, as in `BadRow`."""

    def at(self, number: int) -> RawRow:
        """The same with another number."""
        return replace(self, number=number)

    def checked(self) -> Mapping[str, Any]:
        """Its values. Raises `BadRowError` where it has none."""
        if self.problem is not None:
            raise BadRowError(self.problem.template, **self.problem.values)
        assert self.values is not None
        return self.values

    def bad(self, reason: Message) -> BadRow:
        """What is said of it as a bad row."""
        return BadRow(row=self.number, line=self.line, file=self.file, message=reason)


def too_long() -> Message:
    """The clause about a row beyond the limit."""
    return Message(
        N_("the row has more than {limit}, which is too long for one; put each row on a line of its own"),
        {"limit": size(MAX_ROW_BYTES)},
    )


def place_of(bad: BadRow) -> Message:
    """Where a bad row stands: its line, or its number where its file has no lines."""
    if bad.line is not None:
        return Message(
            N_("Line {line} of {file}: {reason}."), {"line": bad.line, "file": bad.file, "reason": bad.message}
        )
    return Message(N_("Row {row} of {file}: {reason}."), {"row": bad.row, "file": bad.file, "reason": bad.message})


def too_many_bad(first: list[BadRow], num_bad: int, allowed: int) -> DataError:
    """The error for more bad rows than `max_bad_rows` allows, naming the first of them."""
    if num_bad == 1:
        return DataError(
            N_("{place} Fix or remove it, or set `max_bad_rows` to 1 to train without it."), place=place_of(first[0])
        )
    return DataError(
        N_(
            "{num} rows are bad, and `max_bad_rows` allows {allowed}. {places} Fix or remove them, or set `max_bad_rows` to {num} to train without them."
        ),
        num=num_bad,
        allowed=allowed,
        places=[place_of(bad) for bad in first[:3]],
    )
