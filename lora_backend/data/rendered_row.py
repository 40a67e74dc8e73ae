"""A row as a model's template writes it: pieces of text, and which of them are trained on."""

from __future__ import annotations

from typing import Any

from lora_backend.typed_json import Count, Document, Part, Sentence


class Piece(Part):
    """Neighbouring tokens of which the same is true, as one text."""

    text: str
    is_trained: bool
    """Whether its tokens have a label, so that they are learned."""
    is_special: bool = False
    """Whether it is one special token, as in `<|im_end|>`."""
    is_cut: bool = False
    """Whether `max_length` takes it away; then nothing of it is trained on."""


class RenderedRow(Part):
    """One row, whole: what is cut stands in it as well."""

    row: Count
    """From 1, over all rows of the set."""
    pieces: list[Piece]
    """Empty where the template refuses the row."""
    tokens: Count = 0
    """Before the cut."""
    trained_tokens: Count = 0
    """After it."""
    note: Sentence | None = None
    """Why the row is refused or left out, or what of it is not trained on."""


class RenderedRows(Document):
    """The answer to which rows were asked for."""

    rows: list[RenderedRow]
    count: Count
    """Rows that were found; of a search that finds very many, the first ones are in `rows`."""
    is_whole: bool = True
    """Whether a search looked at every row before it had found enough."""


def rows_of(data: dict[str, Any]) -> RenderedRows:
    """What a worker answered. Raises `ValueError` for what is none."""
    return RenderedRows.read(data)
