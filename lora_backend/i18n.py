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

from lora_backend.big_numbers import BIG, in_short
from lora_backend.escaping import visible

LOCALE_DIR = Path(__file__).with_name("locale")


def languages_in(folder: Path) -> dict[str, str]:
    """English, and every language that has a catalogue there: its code → its folder."""
    found = sorted(catalogue.parts[-3] for catalogue in folder.glob("*/LC_MESSAGES/messages.po"))
    return {"en": "en"} | {locale.split("_")[0]: locale for locale in found}


LANGUAGES = languages_in(LOCALE_DIR)
"""Language code as it stands in addresses and on the command line → catalogue folder."""

_current: ContextVar[str | None] = ContextVar("language", default=None)


def N_(template: str) -> str:  # noqa: N802 - gettext's own name for "extract, translate later"
    """Mark `template` for the catalogues without translating it here."""
    return template


class Plural(str):
    """A template whose words go by the value `count`: one sentence for 1, another for all other numbers.

    The text itself is the one for 1: catalogues keep both under it.
    """

    __slots__ = ("others",)
    others: str

    def __new__(cls, one: str, others: str) -> Plural:
        both = super().__new__(cls, one)
        both.others = others
        return both

    def __reduce__(self) -> tuple[type[Plural], tuple[str, str]]:
        return Plural, (str(self), self.others)


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


def translate(template: str, language: str | None = None, count: object = None) -> str:
    """`template` in `language`, a `Plural` in its form for `count`; as it stands where the catalogue has no entry."""
    catalogue = _catalogue(language or current_language())
    if isinstance(template, Plural):
        return catalogue.ngettext(template, template.others, _number(count))
    return catalogue.gettext(template)


def _number(count: object) -> int:
    """The number in a figure as it is shown (`1,024`, `+1`); what is no whole number counts as several."""
    digits = str(count).lstrip("+-").replace(",", "")
    return int(digits) if digits.isdecimal() else 0


def figure(value: Any, spec: str, language: str | None = None) -> str:
    """`value` as a template asks for it: by Python's own rules, or as a big count (`{count:big}`) of `language`."""
    if spec == BIG:
        return in_short(value, LANGUAGES[language or current_language()])
    return format(value, spec)


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
        said = translate(self.template, language, self.values.get("count"))
        return _Sentence(language).vformat(said, (), self.values)

    def __str__(self) -> str:
        return self.text()

    def to_json(self) -> dict[str, Any]:
        others = {"plural": self.template.others} if isinstance(self.template, Plural) else {}
        return {
            "template": str(self.template),
            **others,
            "values": {key: _stored(value) for key, value in self.values.items()},
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Message:
        """A stored one. A template that is none of ours is text like any other: the file may come from anywhere."""
        template, values = str(data["template"]), {key: _restored(value) for key, value in data["values"].items()}
        message = cls(Plural(template, str(data["plural"])), values) if "plural" in data else cls(template, values)
        message = _from_old_form(message)
        if _is_ours(message.template):
            return message
        said = message.template
        if isinstance(said, Plural) and _number(values.get("count")) != 1:
            said = said.others
        return cls("{text}", {"text": _FIELD.sub(lambda field: _filled(field, values), said)})


def _is_ours(template: str) -> bool:
    if not isinstance(template, Plural):
        return _HARMLESS.fullmatch(template) is not None or template in _templates()
    forms = (str(template), template.others)
    return all(map(_HARMLESS.fullmatch, forms)) or forms in _templates()


def _from_old_form(message: Message) -> Message:
    """The first files have both words in one template, as in `{rows} {rows:row|rows}`; those of one number have a `Plural`."""
    by = {field["name"] for field in _OLD_PLURAL.finditer(message.template)}
    if len(by) != 1 or isinstance(message.template, Plural):
        return message
    (name,) = by
    if name != "count" and "{count}" in message.template:
        return message
    one, others = (
        _OLD_PLURAL.sub(rf"\g<{word}>", message.template).replace(f"{{{name}}}", "{count}")
        for word in ("one", "others")
    )
    values = {key: value for key, value in message.values.items() if key != name}
    return Message(Plural(one, others), values | {"count": message.values.get(name)})


def _filled(field: re.Match[str], values: Mapping[str, Any]) -> str:
    if old := _OLD_PLURAL.fullmatch(field[0]):
        return old["one"] if _number(values.get(old["name"])) == 1 else old["others"]
    return _Sentence("en").format_field(values.get(field[1], field[0]), "")


def in_code(words: Iterable[object]) -> Message:
    """Names in a row, each in a code span: a value for a sentence, in which backticks of a text are no markup."""
    values = {f"word_{number}": str(word) for number, word in enumerate(words)}
    return Message(", ".join(f"`{{{name}}}`" for name in values), values)


_HARMLESS = re.compile(r"(?:[\w ,;()'–…%/`]|\.(?=\s|$)|:(?=\s|$)|-(?=\w)|\{[a-z_0-9]+\})*")
"""Templates that are nothing but words: most of ours, so that the catalogue need not be read for them."""
_FIELD = re.compile(r"\{(\w+)[^{}]*\}")
_OLD_PLURAL = re.compile(r"\{(?P<name>\w+):(?P<one>[^{}|]*)\|(?P<others>[^{}|]*)\}")


@lru_cache
def _templates() -> frozenset[str | tuple[str, str]]:
    """Every template of this program, a plural as its two forms; any catalogue has them all."""
    from babel.messages.pofile import read_po

    locale_name = next(folder for code, folder in LANGUAGES.items() if code != "en")
    with (LOCALE_DIR / locale_name / "LC_MESSAGES" / "messages.po").open("rb") as source:
        return frozenset(message.id for message in read_po(source))


class _Sentence(string.Formatter):
    """Puts values into a template as text that is safe to print."""

    def __init__(self, language: str | None) -> None:
        self.language = language

    def format_field(self, value: Any, format_spec: str) -> str:
        if isinstance(value, Message):
            return value.text(self.language)
        if isinstance(value, list):
            return " ".join(self.format_field(item, "") for item in value)
        return visible(figure(value, format_spec, self.language))


def _stored(value: Any) -> Any:
    if isinstance(value, list):
        return [_stored(item) for item in value]
    return value.to_json() if isinstance(value, Message) else value


def _restored(value: Any) -> Any:
    if isinstance(value, list):
        return [_restored(item) for item in value]
    is_message = isinstance(value, dict) and {"template", "values"} <= value.keys() <= {"template", "plural", "values"}
    return Message.from_json(value) if is_message else value
