"""JSON and TOML with limits: brackets, dots, keys and values are counted before a reader makes anything of them."""

from __future__ import annotations

import re
from typing import Literal

from lora_backend.config.yaml_limits import (
    FEWER,
    MAX_DEPTH,
    MAX_KEYS,
    MAX_VALUES,
    TOO_DEEP,
    TOO_MANY_KEYS,
    TOO_MANY_VALUES,
    RefusedError,
)
from lora_backend.i18n import N_

MAX_DOTS = 10_000
"""Of all keys of a TOML file together; its reader walks down every part of a key from the top."""
_JSON = re.compile(r'"(?:[^"\\]|\\.)*+"?|[\[\]{},:\n]', re.DOTALL)
_TOML = re.compile(
    r'"""(?:[^"\\]|\\.|"{1,2}(?!"))*+"{0,5}'
    r"|'''(?:[^']|'{1,2}(?!'))*+'{0,5}"
    r'|"(?:[^"\\\n]|\\.)*+"?'
    r"|'[^'\n]*+'?"
    r"|\#[^\n]*+"
    r"|[\[\]{},=.\n]",
    re.DOTALL,
)
"""Texts and comments as a whole, so that what is in them does not count, and the marks between them."""


def refuse_too_much(text: str, file_format: Literal["json", "toml"]) -> None:
    """Raise `RefusedError` for a text whose reader would take long, or much memory, before it says anything.

    TOML's takes 3.5 GB for a key with 30,000 dots. The text may be cut off or no such file at all: the reader stops
    at the first place that is wrong, and up to there these are its own words.
    """
    pattern, assigns = (_JSON, ":") if file_format == "json" else (_TOML, "=")
    depth = keys = values = dots = all_dots = 0
    for token in pattern.finditer(text):
        mark = token[0]
        if mark == ".":
            dots, all_dots = dots + 1, all_dots + 1
        elif mark[0] not in "\"'":
            dots = 0
        if mark in ("[", "{", "]", "}"):
            depth = depth + 1 if mark in "[{" else max(depth - 1, 0)
        keys += mark == assigns
        values += mark in (",", "[", "{", assigns)
        if max(depth, dots) > MAX_DEPTH:  # each part of a key is a table in the one before
            raise RefusedError(_line(text, token), TOO_DEEP, limit=MAX_DEPTH)
        if all_dots > MAX_DOTS:
            raise RefusedError(
                _line(text, token),
                N_("The file has more than {limit} dots in its keys, first exceeded on line {line}."),
                FEWER,
                limit=MAX_DOTS,
            )
        if keys > MAX_KEYS:
            raise RefusedError(_line(text, token), TOO_MANY_KEYS, FEWER, limit=MAX_KEYS)
        if values > MAX_VALUES:
            raise RefusedError(_line(text, token), TOO_MANY_VALUES, FEWER, limit=MAX_VALUES)


def _line(text: str, token: re.Match[str]) -> int:
    return text.count("\n", 0, token.start()) + 1
