"""Sentences for people: kept as an English template and values, put into the reader's language at the edge."""

from __future__ import annotations

import gettext
import io
import locale
import os
import re
import string
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from lora_backend.escaping import visible

LANGUAGES = {"en": "en", "zh": "zh_CN"}
"""Language code as it stands in addresses and on the command line → catalogue folder."""
LOCALE_DIR = Path(__file__).with_name("locale")

_current: ContextVar[str | None] = ContextVar("language", default=None)


def N_(template: str) -> str:  # noqa: N802 - gettext's own name for "extract, translate later"
    """Mark `template` for the catalogues without translating it here."""
    return template


def language_of(locale_name: str | None) -> str | None:
    """`zh-CN`, `zh_TW.UTF-8`, `en` … → a key of `LANGUAGES`, or None where we have no such language."""
    code = (locale_name or "").lower()[:2]
    return code if code in LANGUAGES else None


def current_language() -> str:
    """The language set by `use_language`, else the locale's, else English."""
    return _current.get() or language_of(os.environ.get("LC_ALL") or _system_locale()) or "en"


def _system_locale() -> str | None:
    return os.environ.get("LC_MESSAGES") or os.environ.get("LANG") or locale.getlocale()[0]


@contextmanager
def use_language(language: str | None) -> Iterator[None]:
    """Let sentences made inside the block be in `language` (None: leave it as it is)."""
    token = _current.set(language or _current.get())
    try:
        yield
    finally:
        _current.reset(token)


def translate(template: str, language: str | None = None) -> str:
    """`template` in `language`; the template itself where the catalogue has no entry."""
    return _catalogue(language or current_language()).gettext(template)


@lru_cache
def _catalogue(language: str) -> gettext.NullTranslations:
    po_file = LOCALE_DIR / LANGUAGES[language] / "LC_MESSAGES" / "messages.po"
    if not po_file.exists():  # English is the language of the templates
        return gettext.NullTranslations()
    # Compiled in memory, so that no binary catalogue can go stale beside its source.
    from babel.messages.mofile import write_mo
    from babel.messages.pofile import read_po

    compiled = io.BytesIO()
    with po_file.open("rb") as source:
        write_mo(compiled, read_po(source, locale=LANGUAGES[language]))
    compiled.seek(0)
    return gettext.GNUTranslations(compiled)


@dataclass(frozen=True)
class Message:
    """One sentence: what is stored and passed on is the template and its values, never the finished text."""

    template: str
    values: Mapping[str, Any] = field(default_factory=dict)

    def text(self, language: str | None = None) -> str:
        """The sentence in `language`, as text; values that are messages, or lists of them, are put into it as well.

        A value moves no cursor, ends no line and turns no direction of reading: such characters are shown.
        """
        return _Sentence(language).vformat(translate(self.template, language), (), self.values)

    def __str__(self) -> str:
        return self.text()

    def to_json(self) -> dict[str, Any]:
        return {"template": self.template, "values": {key: _stored(value) for key, value in self.values.items()}}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Message:
        """A stored one. A template that is none of ours is text like any other: the file may come from anywhere."""
        template, values = str(data["template"]), {key: _restored(value) for key, value in data["values"].items()}
        if _HARMLESS.fullmatch(template) or template in _templates():
            return cls(template, values)
        filled = _FIELD.sub(lambda field: _Sentence("en").format_field(values.get(field[1], field[0]), ""), template)
        return cls("{text}", {"text": filled})


def in_code(words: Iterable[object]) -> Message:
    """Names in a row, each in a code span: a value for a sentence, in which backticks of a text are no markup."""
    values = {f"word_{number}": str(word) for number, word in enumerate(words)}
    return Message(", ".join(f"`{{{name}}}`" for name in values), values)


_HARMLESS = re.compile(r"(?:[\w ,;()'–…%/`]|\.(?=\s|$)|:(?=\s|$)|-(?=\w)|\{[a-z_0-9]+\})*")
"""Templates that are nothing but words: most of ours, so that the catalogue need not be read for them."""
_FIELD = re.compile(r"\{(\w+)[^{}]*\}")


@lru_cache
def _templates() -> frozenset[str]:
    """Every template of this program; the Chinese catalogue has them all."""
    from babel.messages.pofile import read_po

    with (LOCALE_DIR / LANGUAGES["zh"] / "LC_MESSAGES" / "messages.po").open("rb") as source:
        return frozenset(str(message.id) for message in read_po(source))


def formatted(value: Any, spec: str) -> str:
    """`value` as `spec` says; `{count:run|runs}` is the first of two words where `count` is 1, else the second."""
    one, bar, many = spec.partition("|")
    if bar:
        return one if str(value).lstrip("+-") == "1" else many
    return format(value, spec)


class _Sentence(string.Formatter):
    """Puts values into a template as text that is safe to print."""

    def __init__(self, language: str | None) -> None:
        self.language = language

    def format_field(self, value: Any, format_spec: str) -> str:
        if isinstance(value, Message):
            return value.text(self.language)
        if isinstance(value, list):
            return " ".join(self.format_field(item, "") for item in value)
        return visible(formatted(value, format_spec))


def _stored(value: Any) -> Any:
    if isinstance(value, list):
        return [_stored(item) for item in value]
    return value.to_json() if isinstance(value, Message) else value


def _restored(value: Any) -> Any:
    if isinstance(value, list):
        return [_restored(item) for item in value]
    is_message = isinstance(value, dict) and value.keys() == {"template", "values"}
    return Message.from_json(value) if is_message else value
