"""What an exported file is made of: its keys, and a row for each of ours; YAML that old and new readers take alike."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from lora_backend.config.diff import same_value
from lora_backend.config.foreign.result import ExportOutcome, ExportRow
from lora_backend.config.schema import KEYS, REQUIRED, default_config
from lora_backend.data.rows import RowFormat
from lora_backend.i18n import N_, Message, in_code

_BARE = re.compile(r"[A-Za-z_./][\w./@+-]*", re.ASCII)
_RESERVED = {"y", "n", "yes", "no", "on", "off", "true", "false", "null", "none", "nan", "inf"}
"""Words that YAML 1.1, which most tools still read, takes for something else than text."""


class Written:
    """Collects the lines of a foreign file, and says of each of our keys what became of it."""

    def __init__(self, values: Mapping[str, Any], row_format: RowFormat | None = None) -> None:
        self.row_format = row_format
        self.given = dict(values)
        self.values = default_config() | dict(values)
        self.lines: dict[str, Any] = {}
        self.rows: dict[str, ExportRow] = {}

    def __getitem__(self, key: str) -> Any:
        return self.values.get(key)

    def write(self, **theirs: Any) -> None:
        """Lines that no key of ours asks for."""
        self.lines |= theirs

    def carry(self, key: str, **theirs: Any) -> None:
        """`key` stands in the file as `theirs`; without any, leaving it out means the same there."""
        self.lines |= theirs
        same = any(same_value(self[key], value) for value in theirs.values())
        outcome: ExportOutcome = "taken" if same else "translated"
        message = Message(N_("Written as {lines}."), {"lines": in_code(f"{name}: {_scalar(value)}" for name, value in theirs.items())})  # fmt: skip
        if theirs:
            self._row(key, outcome, theirs, message)
        else:
            self._row(key, "taken", theirs, Message(N_("It needs nothing in the export.")))

    def guess(self, key: str, message: str, **theirs: Any) -> None:
        """`key` as `theirs`, which the config alone does not tell; the message says when it is right."""
        self.lines |= theirs
        self.rows[key] = ExportRow(key, self[key], "translated", theirs, Message(message), is_guess=True)

    def carry_set(self, key: str, theirs: str) -> None:
        """`key` as `theirs`, where it is set at all."""
        self.carry(key, **({} if self[key] is None else {theirs: self[key]}))

    def drop(self, key: str, reason: str, **values: Any) -> None:
        """`key` cannot be carried. No row where it is at our default, which was not chosen."""
        default = KEYS[key].default
        if key in self.given and (default is REQUIRED or not same_value(default, self.given[key])):
            self._row(key, "not_supported", {}, Message(reason, values))
        else:
            self.rows.setdefault(key, ExportRow(key, self[key], "taken", {}, Message(N_("At its default."))))

    def drop_rest(self, reason: str) -> None:
        """Every key of which nothing was said yet."""
        for key in KEYS:
            if key not in self.rows:
                self.drop(key, reason)

    def _row(self, key: str, outcome: ExportOutcome, theirs: dict[str, Any], message: Message) -> None:
        self.rows[key] = ExportRow(key, self[key], outcome, theirs, message)


def yaml_text(lines: Mapping[str, Any]) -> str:
    """One `key: value` a line, so written that YAML 1.1 and 1.2 read the same: `no` in quotes, `1.0e-05` with its dot."""
    return "".join(f"{key}: {_scalar(value)}\n" for key, value in lines.items())


def _scalar(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        text = repr(value)
        return text.replace("e", ".0e") if "e" in text and "." not in text else text
    if isinstance(value, str):
        is_bare = (
            _BARE.fullmatch(value) and value.lower() not in _RESERVED and not re.fullmatch(r"[._\d]+(e.*)?", value)
        )
        return value if is_bare else _quoted(value)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_quoted(str(key))}: {_scalar(item)}" for key, item in value.items()) + "}"
    return "[" + ", ".join(map(_scalar, value)) + "]"


def _quoted(text: str) -> str:
    """A double-quoted scalar; what is not printable as an escape that every reader knows."""
    quoted = json.dumps(text, ensure_ascii=False)
    return "".join(char if char.isprintable() else f"\\U{ord(char):08x}" for char in quoted)
