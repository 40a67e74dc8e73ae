"""What YAML reads as something else than people mean: leading zeros, words of YAML 1.1, full-width characters."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from lora_backend.config.findings import Finding, Fix, shorten
from lora_backend.config.fix_offers import change
from lora_backend.config.patch import Patch
from lora_backend.config.rules.file_rules import FULL_WIDTH, LEADING_ZERO, YAML_1_1
from lora_backend.i18n import N_, Message

_LEADING_ZERO = re.compile(r"[-+]?0\d[\d_]*")
_WORDS_OF_1_1 = re.compile(r"(?:yes|no|on|off|y|n)|\d+(?::[0-5]\d)+|\d+e[-+]?\d+", re.IGNORECASE)
"""Text here, but a switch, base 60 or (the last) a text in tools that read YAML 1.1."""
_TYPOGRAPHIC = {ord(odd): plain for odd, plain in zip("“”‘’−–、。", "\"\"''--,.", strict=True)}
NO_BREAK_SPACES = "\u00a0\u2007\u202f"
"""They look like spaces, come from text processors and chats, and are letters to YAML."""
SWITCHES = {"yes": True, "on": True, "y": True, "true": True, "no": False, "off": False, "n": False, "false": False}
"""Words that people mean as true or false."""


def to_ascii(text: str) -> str:
    """Full-width letters, digits and punctuation, and typographic quotes, as ordinary ones."""
    normal = unicodedata.normalize("NFKC", text)
    return normal.translate(_TYPOGRAPHIC)


def is_full_width(text: str) -> bool:
    """Whether a text holds characters of the full-width block, which look like ordinary ones."""
    return any("\uff01" <= char <= "\uff5e" or char == "\u3000" for char in text)


def leading_zero(key: str, written: str, value: Any, line: int | None) -> Finding | None:
    """`08` is 8 here and no number in YAML 1.1; `010` is 10 here and 8 there."""
    if not _LEADING_ZERO.fullmatch(written) or isinstance(value, str):
        return None
    values = {"key": key, "written": written, "value": value}
    fix = Fix(Patch({key: value}), Message(N_("Write it as `{key}: {value}`"), values))
    return LEADING_ZERO.found_on(line, key, values, fix)


def word_of_yaml_1_1(key: str, written: str, value: Any, line: int | None) -> Finding | None:
    """A bare text that is no text in tools that still read YAML 1.1."""
    if not isinstance(value, str) or not _WORDS_OF_1_1.fullmatch(written):
        return None
    return YAML_1_1.found_on(line, key, {"key": key, "written": written})


def misread_character(text: str, line: int, first: int | None = None) -> tuple[int, str] | None:
    """The line and the full-width character or no-break space in it that keep a key from being one.

    Looked for from `first` to `line`; without `first`, on `line` and on the nearest one with content before it.
    """
    lines = text.splitlines()
    numbers = range(first, line + 1) if first is not None else (line, _content_before(lines, line))
    for number in numbers:
        content = _without_comment(lines[number - 1]) if 1 <= number <= len(lines) else ""
        # After a real `key: ` comes its value, which may hold any character.
        head = re.split(r":(?: |$)", content, maxsplit=1)[0]
        for char in head:
            if char in NO_BREAK_SPACES or is_full_width(char):
                return number, char
    return None


def remedy_of_syntax(text: str, line: int) -> Message | None:
    """What helps with a line that cannot be read, where its characters tell."""
    lines = text.splitlines()
    numbers = [number for number in (line, _content_before(lines, line)) if 1 <= number <= len(lines)]
    if any(re.match(r"\s*\t", lines[number - 1]) for number in numbers):
        return Message(N_("Indent with spaces; YAML does not allow tabs."))
    for number in numbers:
        found = next(filter(is_full_width, _without_comment(lines[number - 1])), None)
        if found is not None:
            return Message(
                N_("Line {line} contains the full-width character {found}. Write the ordinary {plain} instead."),
                {"line": number, "found": found, "plain": shorten(to_ascii(found))},
            )
    return None


def _content_before(lines: Sequence[str], line: int) -> int:
    """The nearest line before `line` that is neither empty nor a comment; 0 where there is none."""
    earlier = range(min(line - 1, len(lines)), 0, -1)
    return next((number for number in earlier if _without_comment(lines[number - 1]).strip()), 0)


def _without_comment(line: str) -> str:
    return re.split(r"(?:^|[ \t])#", line, maxsplit=1)[0]


def full_width_values(values: Mapping[str, Any], lines: Mapping[str, int]) -> list[Finding]:
    """Texts with full-width characters in them; a model may be called so, a number never is."""
    found = []
    for key, value in values.items():
        if isinstance(value, str) and is_full_width(value):
            plain = to_ascii(value)
            shown = {"key": key, "value": shorten(value), "plain": shorten(plain)}
            found.append(FULL_WIDTH.found_on(lines.get(key), key, shown, change(values, {key: plain})))
    return found
