"""What the data page is asked: its address in typed words, over the values of the draft that it names."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import streamlit as st

from lora_backend.bounded import load_json
from lora_backend.config.key_queries import DATA_KEYS
from lora_backend.config.named_data import paths_in, trained_on
from lora_backend.config.schema import KEYS
from lora_backend.config.spelling import words_of
from lora_backend.data.forms import FORM_NAMES
from lora_backend.errors import FileRefusedError
from pages.parts.shell import addresses
from pages.parts.shell.addressed_draft import values_of_draft

WORDS = ("data_format", "truncation", "train_on")
"""Keys of the config that are one word in the address."""
VIEWS = ("rows", "lengths", "problems")
NUMBERS = ("max_length", "batch_size")
MOST = 2**40


@dataclass(frozen=True)
class Question:
    """The address of the page; all that it shows follows from it."""

    params: Mapping[str, str]
    base: Mapping[str, Any] = field(default_factory=dict)
    """Values of the draft whose data is looked at; the address wins over them."""

    @property
    def dataset(self) -> str:
        given = self.params.get(addresses.DATASET)
        if given is not None:
            return given.strip()
        return next((named.path for named in trained_on(self.base)), "").strip()

    @property
    def split(self) -> str | None:
        """Of a folder with several, the one that the draft names."""
        return next((named.split for named in paths_in(self.base) if named.path == self.dataset), None)

    @property
    def model(self) -> str:
        given = self.params.get(addresses.MODEL)
        return (given if given is not None else _text(self.base.get("model_name"))).strip()

    @property
    def row(self) -> int | None:
        """The row that stands alone."""
        return _number(self.params.get(addresses.ROW))

    @property
    def page(self) -> int:
        return _number(self.params.get(addresses.PAGE)) or 1

    @property
    def search(self) -> str:
        return self.params.get(addresses.SEARCH, "").strip()[:200]

    @property
    def view(self) -> str:
        """The part of the page that is shown; of a word that is none of ours, the rows."""
        view = self.params.get(addresses.VIEW, "")
        return view if view in VIEWS else VIEWS[0]

    @property
    def only(self) -> str:
        """The code of a note whose rows are shown."""
        return self.params.get(addresses.ONLY, "")

    def value(self, name: str) -> Any:
        """A key of the config: of the address, of the draft, or its default."""
        text = self.params.get(name)
        if text and name in NUMBERS and (found := _number(text)) is not None:
            return found
        if text and name == "data_columns":
            return columns_of(text)
        if text and name in WORDS and text in (words_of(KEYS[name]) if name in KEYS else FORM_NAMES):
            return text
        return self.base.get(name, KEYS[name].default if name in KEYS else None)

    def values(self) -> dict[str, Any]:
        """The config that rows are read and written by."""
        asked = {
            name: self.value(name)
            for name in (*WORDS, *NUMBERS, "data_columns")
            if name in self.params and name in KEYS
        }
        named = {"model_name": self.model, "dataset": self.dataset}
        others = {key: value for key, value in self.base.items() if key not in DATA_KEYS}
        return {**others, **{key: value for key, value in {**named, **asked}.items() if value not in ("", None)}}


def read_question() -> Question:
    """The address, and the draft that it names. Raises `ConfigError` where there is no such draft or it cannot be read."""
    params = dict(st.query_params)
    values = values_of_draft(params)
    return Question(params) if values is None else Question(params, values)


def columns_of(text: str) -> dict[str, str]:
    """Part → column, from JSON; nothing from what is none."""
    try:
        found = load_json(text[:4000].encode("utf-8", "replace"), "data_columns")
    except (ValueError, FileRefusedError):
        return {}
    if not isinstance(found, dict):
        return {}
    return {str(part): column for part, column in found.items() if isinstance(column, str)}


def as_words(columns: Mapping[str, str]) -> str:
    """The other way round."""
    return json.dumps(dict(columns), ensure_ascii=False, separators=(",", ":"))


def _number(text: str | None) -> int | None:
    """A whole number from 1 on; None for what is none."""
    if text is None or not text.isascii() or not text.isdigit():
        return None
    number = int(text[:15])
    return number if 1 <= number <= MOST else None


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
