"""What is told of a data set: its rows, and in tokens what a model learns of them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from lora_backend.typed_json import Count, Document, Number, Part, Sentence

MOST_NAMED = 100
"""Rows that a note has the numbers of."""
NoteCode = Literal[
    "cut", "without_end", "behind_cut", "lost_answer", "duplicate", "in_both_splits", "empty_answer", "all_prompt",
    "unused_key", "refused", "no_end_of_turn", "end_is_not_eos",
]  # fmt: skip


class BadRow(Part):
    """A row that cannot be trained on."""

    row: Count
    """From 1, over all rows of its file."""
    line: Count | None
    """From 1, where its file has lines; a row of a table's file has none."""
    file: str
    message: Sentence


class RowNote(Part):
    """Rows of which the same is to be said, and the first of them by number."""

    code: NoteCode
    count: Count
    """Rows that were looked at; of a sample it is not scaled up."""
    rows: list[Count]
    """The first hundred, from 1."""
    detail: str | None = None
    """The key that is not used, the mark that ends a turn, or what the model's end of text is."""
    message: Sentence | None = None
    """Why the first of them is refused; what is wrong with the end of a turn."""
    remedy: Sentence | None = None
    """What to do about the end of a turn."""


def note_of(code: NoteCode, rows: list[int]) -> RowNote:
    """The note on rows by their numbers, of which there is at least one."""
    return RowNote(code=code, count=len(rows), rows=rows[:MOST_NAMED])


class TokenCounts(Part):
    """Of rows written with a model's template, before and after `max_length` cuts them."""

    rows: Count
    """That were looked at: all of a set, or of a large one a seeded sample."""
    is_estimate: bool
    """Whether the sums are of a sample, scaled up to the set."""
    tokens: Count
    """Of one epoch, after the cut."""
    trained_tokens: Count
    """Of these, the ones with a label."""
    longest: Count
    """Of a single row, before the cut."""
    cut: Count
    """Rows that are longer than `max_length`."""
    without_end: Count
    """Rows that lose the mark that ends their last answer."""
    behind_cut: Count
    """Rows of which no trained token is left."""
    max_length: Count
    """That the rows were cut at."""
    truncation: str
    """What became of longer rows, by its word in the config."""
    longest_kept: Count = 0
    """Of a single row that is trained on or evaluated, after the cut."""
    trained_rows: Count = 0
    """That an epoch trains on: those with a trained token that are not held out."""
    held_back_rows: Count = 0
    """With a trained token, that are held out for evaluation."""
    lengths: list[Count]
    """Rows by length before the cut: how many have more tokens than the edge before and at most as many as their own."""
    edges: list[Count]
    """Tokens, each more than the one before; as many as `lengths`."""
    quantiles: list[Count] = Field(default_factory=list)
    """Lengths before the cut, from the shortest to the longest: of all rows, or of many at even distances."""
    padded_share: Number
    """Of the tokens of an epoch in batches as they are trained, those that only fill up; 0 to 1."""


class DataReport(Document):
    """All that `data` tells of a set: the document of `data --json`, and what is kept of a set by its content."""

    form: str
    """By its word in `data_format`."""
    columns: dict[str, str] = Field(default_factory=dict)
    """What each part of the form is read from, where that is not its own name."""
    rows: Count
    """Good ones."""
    bad_rows: list[BadRow]
    """The first hundred."""
    num_bad_rows: Count
    duplicates: Count
    """Rows that another row before them is equal to."""
    notes: list[RowNote]
    sha256: str
    """Of the bytes of its files."""
    counts: TokenCounts | None = None
    """None without a model."""

    def notes_of(self, code: NoteCode) -> list[RowNote]:
        """What is said under `code`: one note, or one for each of its details."""
        return [note for note in self.notes if note.code == code]


def report_of(data: dict[str, Any]) -> DataReport:
    """What was kept. Raises `ValueError` for what is none, or of a newer version."""
    if DataReport.is_newer(data):
        raise ValueError("a newer format")
    return DataReport.read(data)
