"""A rendered row for a reader: what is trained on, what is special, what is cut."""

from __future__ import annotations

from collections.abc import Iterator

from lora_backend.data.rendered_row import Piece, RenderedRow
from lora_backend.i18n import N_, Message
from lora_backend.terminal import Style

LEGEND = N_("Trained tokens are green, special tokens cyan, what `max_length` cuts is struck through.")
PLAIN_LEGEND = N_("⟦…⟧ is trained on; ~~…~~ is cut by `max_length`.")


def row_message(row: RenderedRow) -> Message:
    """`Row 3: 120 tokens, 40 of them trained on`."""
    values = {"row": row.row, "tokens": row.tokens, "trained": row.trained_tokens}
    return Message(N_("Row {row}: {tokens} tokens, {trained} of them trained on"), values)


def style_of(piece: Piece) -> frozenset[Style]:
    """How a piece is set apart."""
    styles: list[tuple[bool, Style]] = [
        (piece.is_trained and not piece.is_cut, "trained"),
        (piece.is_special, "special"),
        (piece.is_cut, "cut"),
    ]
    return frozenset(style for is_so, style in styles if is_so)


def styled_pieces(row: RenderedRow) -> Iterator[tuple[str, frozenset[Style]]]:
    """Each piece with its styles."""
    for piece in row.pieces:
        yield piece.text, style_of(piece)


def marked_text(row: RenderedRow) -> str:
    """The same where there are no colours: brackets round what is trained on, tildes round what is cut."""
    text, before = "", ("", "")
    for piece in row.pieces:
        marks = ("~~", "~~") if piece.is_cut else ("⟦", "⟧") if piece.is_trained else ("", "")
        if marks != before:
            text += before[1] + marks[0]
        text, before = text + piece.text, marks
    return text + before[1]
