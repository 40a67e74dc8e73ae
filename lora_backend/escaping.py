"""Text from outside where it could act: on a terminal, in a spreadsheet, in a Markdown table."""

from __future__ import annotations

import re
from typing import Any

_BIDI = (0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
"""They reorder what stands around them, so that a name reads as another."""
_CONTROLS = (*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029, *_BIDI)


def _shown(code: int) -> str:
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


_IN_LINES = {code: _shown(code) for code in _CONTROLS if chr(code) not in "\n\t"}
_IN_ONE_LINE = {**_IN_LINES, ord("\n"): " ", ord("\t"): " "}
_FORMULA = re.compile(r"[\s\x00-\x1f]*[=+\-@\t\r＝＋－＠]")


def visible(text: str) -> str:
    """`text` in one line: control characters and those that turn the direction of reading are shown as `\\x1b`."""
    return _printable(text.replace("\r\n", "\n").translate(_IN_ONE_LINE))


def visible_lines(text: str) -> str:
    """The same for a text of several lines: line ends and tabs stay."""
    return _printable(text.replace("\r\n", "\n").translate(_IN_LINES))


def _printable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode("utf-8")  # half a surrogate pair cannot be printed


def csv_cell(value: Any) -> Any:
    """A cell of CSV or TSV: a text that a spreadsheet would run as a formula gets a `'` before it; numbers stay numbers."""
    return f"'{value}" if isinstance(value, str) and _FORMULA.match(value) else value


def markdown_cell(value: Any) -> str:
    """A cell of a Markdown table that is copied or saved: one line that ends no column and is no markup."""
    return re.sub(r"([\\`*_\[\]<>|~$&])", r"\\\1", visible(str(value)))
