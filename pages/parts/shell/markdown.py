"""Text for the places that Streamlit reads as Markdown: labels, boxes, captions, tooltips, toasts, cells of `st.table`.

`t` and `say` give `Markdown`, with every value in it escaped. What is not `Markdown` is text of somebody else and goes
through `escape`, `code` or `joined`; a test reads the source of all pages for what does not.
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from lora_backend.escaping import visible
from lora_backend.i18n import Message, figure, translate

BREAK = "\u2060"  # joins words and has no width
"""Put where an escape is of no use, because Streamlit looks for the word after Markdown was read."""
_FOUND_IN_TEXT = re.compile(
    r"(?i)(?<=http)(?=s?:/)|(?<=\bwww)(?=\.)|(?<=[\w.+-])(?=@[\w.-])|^(?=//)"  # GFM: addresses and e-mail
    r"|(?<=:)(?=[\w+/-]*[a-z][\w+/-]*:|1(?:00|234):|[+-]1:)"  # :smile:, :material/home:
    r"|(?:(?<=^<)|(?<=^-)|(?<=^[<>~])|(?<=\s<)|(?<=\s-)|(?<=\s[<>~]))(?=(?:->|-|>|=)(?:\s|$))"  # arrows, dashes and signs
)
_SPECIAL = re.compile(
    r"[\\`*\[\]<|~$]"
    r"|(?<![^\W_])_|_(?![^\W_])"  # within a word it is no emphasis
    r"|&(?=[#\w])|:(?=[A-Za-z:])"  # entities; :red[…]
    r"|^>|^[-+=#](?=\s|$|[-=#])"  # quotes, lists, headings and lines
)


_NUMBERED = re.compile(r"^(\d{1,9})([.)])(?=\s|$)")


class Markdown(str):
    """Text that may be read as Markdown: what comes from outside is escaped in it."""

    __slots__ = ()


def escape(value: object) -> Markdown:
    """`value` as the text that it is; `Markdown` stays."""
    if isinstance(value, Markdown):
        return value
    text = re.sub(r"^ +", " ", visible(str(value)))
    text = _SPECIAL.sub(r"\\\g<0>", _FOUND_IN_TEXT.sub(BREAK, text))
    return Markdown(_NUMBERED.sub(r"\1\\\2", text))


def code(value: object) -> Markdown:
    """`value` in a code span, whatever backticks it has."""
    text = visible(unmarked(value))
    text = text.replace(":material/", f":{BREAK}material/")  # else shown as `:material_`
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", text)), default=0))
    if not text.strip() or text[0] in "` " or text[-1] in "` ":
        text = f" {text or ' '} "
    return Markdown(f"{fence}{text}{fence}")


def bold(value: object) -> Markdown:
    """`value` in bold."""
    return Markdown(f"**{escape(value).strip() or '–'}**")  # beside a space the stars would be seen


def joined(separator: str, parts: Iterable[object]) -> Markdown:
    """`parts` with our `separator` between them; those that are no `Markdown` are escaped."""
    return Markdown(separator.join(escape(part) for part in parts))


class _Piece(NamedTuple):
    """A stretch of a sentence: words of ours, or a value."""

    is_ours: bool
    what: Any
    spec: str = ""


def sentence(template: str, values: Mapping[str, Any], language: str) -> Markdown:
    """`template` in `language`; its own Markdown stays Markdown, every value is text.

    A value that stands in a code span of the template is put there whole, for an escape would be seen in it.
    """
    out: list[str] = []
    span: list[str] | None = None  # what stands in the code span that is open
    for piece in _pieces(template, values, language):
        if not piece.is_ours:
            if span is None:
                out.append(_shown(piece, language))
            else:
                span.append(unmarked(piece.what, piece.spec, language))
            continue
        for number, part in enumerate(piece.what.split("`")):
            if number:
                if span is None:
                    span = []
                else:
                    out.append(code("".join(span)))
                    span = None
            (out if span is None else span).append(part)
    if span is not None:  # a lone backtick
        out.append("\\`" + escape("".join(span)))
    return Markdown("".join(out))


def _pieces(template: str, values: Mapping[str, Any], language: str) -> Iterable[_Piece]:
    formatter = string.Formatter()
    for ours, field, spec, conversion in formatter.parse(translate(template, language, values.get("count"))):
        yield _Piece(True, ours)
        if field is not None:
            value, _ = formatter.get_field(field, (), values)
            yield _Piece(False, formatter.convert_field(value, conversion), spec or "")


def _shown(piece: _Piece, language: str) -> Markdown:
    value = piece.what
    if isinstance(value, Message):
        return sentence(value.template, value.values, language)
    if isinstance(value, list):
        return joined(" ", (_shown(_Piece(False, item), language) for item in value))
    return value if isinstance(value, Markdown) else escape(figure(value, piece.spec, language))


def unmarked(value: object, spec: str = "", language: str | None = None) -> str:
    """What would be read, without markup."""
    if isinstance(value, Markdown):
        return re.sub(r"\\([^\w\s])", r"\1", value).replace(BREAK, "")
    if isinstance(value, Message):
        return value.text(language)
    if isinstance(value, list):
        return " ".join(unmarked(item, "", language) for item in value)
    return figure(value, spec, language)
