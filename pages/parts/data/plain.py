"""A row without a model: its turns one below the other, or the texts that it holds."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import streamlit as st

from lora_backend.data.row_text import RowText
from lora_backend.escaping import visible_lines
from lora_backend.i18n import N_
from pages.parts.data.pieces import BOX, LONG, SHORT
from pages.parts.shell.html import Html, tag
from pages.parts.shell.language import t

NAME = "font-weight: 600; opacity: .75; font-size: .85rem"
LISTS = (("messages", "role", "content"), ("conversations", "from", "value"))


def show_plain(row: RowText, *, alone: bool) -> None:
    """Draw a row as its file has it."""
    limit = LONG if alone else SHORT
    height = "" if alone else "; max-height: 20rem"
    if row.values is None:
        st.code(visible_lines(row.text[:limit]), language=None, wrap_lines=True)
    else:
        turns = list(parts_of(row.values))
        st.html(tag("div", _lines(turns, limit), style=BOX + height))
    if len(row.text) > limit:
        st.caption(t(N_("{count} more characters are not drawn here."), count=f"{len(row.text) - limit:,}"))


def parts_of(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Name and text of each turn of a chat, and of whatever else the row holds."""
    for key, value in values.items():
        names = next(((who, what) for name, who, what in LISTS if name == key), None)
        if names is not None and isinstance(value, list) and all(isinstance(turn, dict) for turn in value):
            for turn in value:
                yield str(turn.get(names[0], "–")), _text(turn.get(names[1]))
        else:
            yield str(key), _text(value)


def _lines(parts: list[tuple[str, str]], limit: int) -> Iterator[Html]:
    for name, text in parts:
        if limit <= 0:
            return
        yield tag("div", [name], style=NAME)
        yield tag("div", [text[:limit]], style="margin-bottom: .5rem")
        limit -= len(text)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
