"""A row without a model: its turns one below the other, or the texts that it holds."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import streamlit as st

from lora_backend.data.chat_rows import RowLeftOutError
from lora_backend.data.examples import Chat, Pair, Text
from lora_backend.data.forms import FoundForm
from lora_backend.data.raw_rows import RawRow
from lora_backend.errors import DataError
from lora_backend.i18n import N_
from pages.parts.data.pieces import BOX, LONG, SHORT
from pages.parts.shell.html import Html, tag
from pages.parts.shell.language import t

TURN = "margin-bottom: .5rem"
NAME = "font-weight: 600; opacity: .75; font-size: .85rem"


def show_plain(row: RawRow, form: FoundForm | None, *, alone: bool) -> None:
    """Draw a row as its file has it; a bad one part by part."""
    limit = LONG if alone else SHORT
    height = "" if alone else "; max-height: 20rem"
    if row.values is None:
        return
    turns = list(_turns(row.values, form))
    st.html(plain_html(turns, limit, height))
    left = sum(len(text) for _, text in turns) - limit
    if left > 0:
        st.caption(t(N_("{count} more characters are not drawn here."), count=f"{left:,}"))


def plain_html(turns: Iterable[tuple[str, str]], limit: int, height: str) -> Html:
    """Name and text of each turn, up to so many letters."""
    return tag("div", _lines(turns, limit), style=BOX + height)


def _turns(values: Mapping[str, Any], form: FoundForm | None) -> Iterator[tuple[str, str]]:
    """Who says what; of what is no row of the form, its columns."""
    try:
        example = None if form is None else form.example(values)
    except (DataError, RowLeftOutError):
        example = None
    match example:
        case Chat():
            if example.tools:
                yield "tools", _text(list(map(dict, example.tools)))
            for message in example.messages:
                content = _text(message.get("content"))
                calls = message.get("tool_calls")
                yield str(message.get("role", "–")), "\n".join(filter(None, [content, calls and _text(calls)]))
        case Pair():
            yield "prompt", example.prompt
            yield "completion", example.completion
        case Text():
            yield "text", example.text
        case None:
            for key, value in values.items():
                yield str(key), _text(value)


def _lines(parts: Iterable[tuple[str, str]], limit: int) -> Iterator[Html]:
    for name, text in parts:
        if limit <= 0:
            return
        yield tag("div", [name], style=NAME)
        yield tag("div", [text[:limit]], style=TURN)
        limit -= len(text)


def _text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
