"""A row as the model reads it: what it learns coloured and underlined, special tokens boxed, what is cut struck through.

Colour never stands alone, and every fill reads well on a light and on a dark page.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import streamlit as st

from lora_backend.data.rendered_row import Piece, RenderedRow
from lora_backend.i18n import N_
from pages.parts.shell.html import Html, tag
from pages.parts.shell.language import t, t_plain

TRAINED = "background: rgba(56, 161, 105, .26); border-bottom: 2px solid rgba(56, 161, 105, .95)"
SPECIAL = "border: 1px solid rgba(113, 128, 150, .8); border-radius: 3px; padding: 0 2px; font-size: .92em"
CUT = "text-decoration: line-through; text-decoration-color: rgba(229, 62, 62, .9); opacity: .65"
PLAIN = "color: inherit; background: none"
BOX = "white-space: pre-wrap; overflow-wrap: anywhere; overflow-y: auto; line-height: 1.65; font-size: .93rem"
SHORT, LONG = 6_000, 400_000
"""Letters of a row that are drawn among others, and of a row that stands alone."""
LINE_END = "↵\n"


def show_row_text(row: RenderedRow, *, alone: bool) -> None:
    """Draw a row; one of many has a height of its own, in which it scrolls."""
    pieces, left = shortened(row.pieces, LONG if alone else SHORT)
    st.html(row_html(pieces, alone=alone))
    if left:
        st.caption(t(N_("{count} more characters are not drawn here."), count=f"{left:,}"))


def show_legend() -> None:
    """What the marks mean."""
    marks = [
        (Piece(text=t_plain(N_("trained on")), is_trained=True), N_("The model learns to write these tokens.")),
        (Piece(text=t_plain(N_("only read")), is_trained=False), N_("The model reads these tokens and learns nothing from them.")),
        (Piece(text=t_plain(N_("special token")), is_trained=False, is_special=True), N_("One token of the model's own, not text.")),
        (Piece(text=t_plain(N_("cut off")), is_trained=False, is_cut=True), N_("Beyond `max_length`: the model never sees it.")),
    ]  # fmt: skip
    st.html(tag("div", _spaced(_piece_html(piece, t_plain(said)) for piece, said in marks), style=BOX))


def row_html(pieces: Iterable[Piece], *, alone: bool) -> Html:
    """The text of a row."""
    height = "" if alone else "; max-height: 20rem"
    return tag("div", (_piece_html(piece, "") for piece in pieces), style=BOX + height)


def shortened(pieces: Iterable[Piece], limit: int) -> tuple[list[Piece], int]:
    """The first `limit` letters, and how many more there are."""
    kept, left, room = [], 0, limit
    for piece in pieces:
        if len(piece.text) <= room:
            kept.append(piece)
        else:
            left += len(piece.text) - room
            if room:
                kept.append(piece.but(text=piece.text[:room]))
        room = max(room - len(piece.text), 0)
    return kept, left


def _piece_html(piece: Piece, title: str) -> Html:
    text = piece.text.replace("\r\n", "\n")
    # A line end that is learned, or a token of its own, would not be seen.
    if piece.is_trained or piece.is_special:
        text = text.replace("\n", LINE_END)
    name = "del" if piece.is_cut else "mark" if piece.is_trained else "span"
    style = "; ".join(_styles(piece))
    return tag(name, [text], style=style, title=title)


def _styles(piece: Piece) -> Iterator[str]:
    yield PLAIN
    if piece.is_cut:
        yield CUT
    if piece.is_trained:
        yield TRAINED
    if piece.is_special:
        yield SPECIAL


def _spaced(parts: Iterable[Html]) -> Iterator[str]:
    for part in parts:
        yield part
        yield "   "
