"""What an exported file is made of: its keys, and a row for each of ours; YAML that old and new readers take alike."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from lora_backend.config.diff import same_value
from lora_backend.config.foreign.outcomes import ExportOutcome, ExportRow
from lora_backend.config.key_queries import names_in
from lora_backend.config.schema import KEYS, REQUIRED, default_config
from lora_backend.data.forms import FormName
from lora_backend.i18n import N_, Message, in_code

_BARE = re.compile(r"[A-Za-z_./][\w./@+-]*", re.ASCII)
_RESERVED = {"y", "n", "yes", "no", "on", "off", "true", "false", "null", "none", "nan", "inf"}
"""Words that YAML 1.1, which most tools still read, takes for something else than text."""


class Written:
    """Collects the lines of a foreign file, and says of each of our keys what became of it."""

    def __init__(self, values: Mapping[str, Any], row_format: FormName | None = None) -> None:
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
        message = Message(
            N_("Written as {lines}."), {"lines": in_code(f"{name}: {_scalar(value)}" for name, value in theirs.items())}
        )
        if theirs:
            self._row(key, outcome, theirs, message)
        else:
            self._row(key, "taken", theirs, Message(N_("The export does not need it.")))

    def guess(self, key: str, message: str, **theirs: Any) -> None:
        """`key` as `theirs`, which the config alone does not tell; the message says when it is right."""
        self.lines |= theirs
        self.rows[key] = ExportRow(key, self[key], "translated", theirs, Message(message), is_guess=True)

    def carry_as(self, key: str, theirs: str) -> None:
        """`key` under another name; unset where that is its default, it is left out."""
        is_unset = self[key] is None and KEYS[key].default is None
        self.carry(key, **({} if is_unset else {theirs: self[key]}))

    def drop(self, key: str, reason: str, **values: Any) -> None:
        """`key` cannot be carried. No row where it is at our default, which was not chosen."""
        default = KEYS[key].default
        if key in self.given and (default is REQUIRED or not same_value(default, self.given[key])):
            self._row(key, "not_supported", {}, Message(reason, values))
        else:
            self.rows.setdefault(key, ExportRow(key, self[key], "taken", {}, Message(N_("At its default."))))

    def _row(self, key: str, outcome: ExportOutcome, theirs: dict[str, Any], message: Message) -> None:
        self.rows[key] = ExportRow(key, self[key], outcome, theirs, message)


Write = Callable[[Written, str], None]
"""Writes one key of ours, whose value stands otherwise in the other tool's file."""


def write_keys(out: Written, tool: str, own: Mapping[str, Write], not_known: str) -> None:
    """Every key: by `own` where it has a way, else under the name that the schema has of it; dropped where it has none."""
    names = names_in(tool)
    for key in KEYS:
        if key in own:
            own[key](out, key)
        elif key in names:
            out.carry_as(key, names[key])
        else:
            out.drop(key, not_known)


def whole(theirs: str, refusal: str) -> Write:
    """A number that the other tool takes only whole."""

    def write(out: Written, key: str) -> None:
        if float(out[key]).is_integer():
            out.carry(key, **{theirs: int(out[key])})
        else:
            out.drop(key, refusal)

    return write


def worded(words: Mapping[Any, Mapping[str, Any]], other: Mapping[str, Any] | None = None) -> Write:
    """Value of ours → their lines; `other` for every other value."""
    return lambda out, key: out.carry(key, **words.get(out[key], other or {}))


def dropped(reason: str) -> Write:
    """A key that the other tool has nothing for."""
    return lambda out, key: out.drop(key, reason)


def accumulation_steps(out: Written, key: str) -> None:
    """The rows of a step, as forward passes for each of them."""
    out.carry(key, gradient_accumulation_steps=max((out[key] or out["batch_size"]) // out["batch_size"], 1))


def best_at_end(out: Written, key: str) -> None:
    """transformers evaluates and saves at the same moments then, or refuses it."""
    out.carry_as(key, key)
    if out[key] and out["eval_strategy"] == "epoch":
        out.write(save_strategy="epoch")


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
