"""Config files: YAML, JSON and TOML read within limits, with what is wrong with the file itself."""

from __future__ import annotations

import copy
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from lora_backend.bounded import open_regular
from lora_backend.config.config_formats import PARSERS, Format, line_at
from lora_backend.config.findings import Finding
from lora_backend.config.rules.file_rules import SYNTAX
from lora_backend.config.token_limits import refuse_too_much
from lora_backend.config.yaml_limits import MAX_DEPTH, TOO_DEEP, UnreadableError
from lora_backend.errors import ConfigError, FileRefusedError
from lora_backend.i18n import N_, Message

MAX_CONFIG_BYTES = 256 * 1024
"""A config is written by hand; what is larger is another kind of file."""
MAX_LINES = 20_000
"""Blank lines and comments cost a reader as much as keys do."""


@dataclass(frozen=True)
class ConfigDocument:
    """A parsed config file. `problems` says what is wrong with the file itself; `values` holds what could be read."""

    text: str
    format: Format
    values: dict[str, Any]
    lines: dict[str, int]
    problems: tuple[Finding, ...] = ()
    written: Mapping[str, str] = field(default_factory=dict)
    """Plain values (no quotes) of keys at the top, letter by letter: `08` was read as 8."""

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> ConfigDocument:
        """Values that come from no file."""
        return cls("", "yaml", dict(values), {})

    @property
    def is_readable(self) -> bool:
        return not any(problem.code == "syntax" for problem in self.problems)


def read_config(path: Path) -> ConfigDocument:
    """Read a file. `ConfigError` where there is none; whatever is wrong inside is among `problems`."""
    try:
        with open_regular(path) as file:
            size_bytes = os.fstat(file.fileno()).st_size
            data = file.read(MAX_CONFIG_BYTES + 1)
    except FileNotFoundError:
        raise ConfigError(N_("There is no config file {path}. Check the path."), path=str(path)) from None
    except FileRefusedError as error:
        raise ConfigError(error.message.template, **error.message.values) from error
    except OSError as error:
        raise ConfigError(
            N_("The config file {path} cannot be read: {reason}. Check the path and its permissions."),
            path=str(path),
            reason=error.strerror or str(error),
        ) from error
    if len(data) > MAX_CONFIG_BYTES:
        return _unreadable("", "yaml", _too_large(max(size_bytes, len(data))), None)
    return decode_config(data, path.name)


def decode_config(data: bytes, name: str = "config.yaml") -> ConfigDocument:
    """The document in the bytes of an uploaded or read file; the format follows the name's ending."""
    if len(data) > MAX_CONFIG_BYTES:
        return _unreadable("", "yaml", _too_large(len(data)), None)
    endings: dict[str, Format] = {".json": "json", ".toml": "toml"}
    file_format = endings.get(Path(name).suffix.lower(), "yaml")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        message = Message(N_("The file is not UTF-8 text (the first error is on line {line})."), {"line": line})
        return _unreadable("", file_format, message, line)
    return parse_config(text, file_format)


def parse_config(text: str, file_format: Format = "yaml") -> ConfigDocument:
    """Parse `text`; never raises for what is in it. A page asks again at every click, so the last few are kept."""
    document = _parsed(text, file_format)
    return replace(document, values=copy.deepcopy(document.values), lines=dict(document.lines))


@lru_cache(maxsize=32)
def _parsed(text: str, file_format: Format) -> ConfigDocument:
    if len(text) > MAX_CONFIG_BYTES:
        return _unreadable(text, file_format, _too_large(len(text.encode())), None)
    if text.count("\n") + text.count("\r") > MAX_LINES:
        message = Message(
            N_("The file has more than {limit} lines, which is too many for a config."), {"limit": MAX_LINES}
        )
        return _unreadable(text, file_format, message, None)
    if (line := _first_too_deep(text)) is not None:
        return _too_deep(text, file_format, line)
    try:
        if file_format != "yaml":  # whose reader counts by itself
            refuse_too_much(text, file_format)
        parsed = PARSERS[file_format](text)
    except UnreadableError as error:
        return _unreadable(text, file_format, error.message, error.line, error.remedy)
    except RecursionError:
        # Brackets and dots were counted; what is left are TOML's tables with dotted keys in each other.
        dotted = (number for number, line in enumerate(text.split("\n"), start=1) if line.count(".") >= MAX_DEPTH)
        return _too_deep(text, file_format, next(dotted, 1))
    document = ConfigDocument(text, file_format, parsed.values, parsed.lines, parsed.problems, parsed.written)
    return _number_of_thousands_of_digits(document) or document


def _first_too_deep(text: str) -> int | None:
    """The line where more than 100 brackets are open, which costs YAML's reader seconds; those in texts count too."""
    depth = 0
    for bracket in re.finditer(r"[\[{\]}]", text):
        depth = depth + 1 if bracket[0] in "[{" else max(depth - 1, 0)
        if depth > MAX_DEPTH:
            return line_at(text, bracket.start())
    return None


def _too_deep(text: str, file_format: Format, line: int) -> ConfigDocument:
    return _unreadable(text, file_format, Message(TOO_DEEP, {"line": line, "limit": MAX_DEPTH}), line)


def _too_large(size_bytes: int) -> Message:
    return Message(
        N_("The file has {size} bytes; a config has at most {limit}."), {"size": size_bytes, "limit": MAX_CONFIG_BYTES}
    )


def _unreadable(
    text: str, file_format: Format, message: Message, line: int | None, remedy: Message | None = None
) -> ConfigDocument:
    if line is None:
        remedy = Message(N_("Give a YAML, JSON or TOML file with one key per line."))
    return ConfigDocument(text, file_format, {}, {}, (SYNTAX.found_on(line, None, sentence=message, remedy=remedy),))


def _number_of_thousands_of_digits(document: ConfigDocument) -> ConfigDocument | None:
    """The refusal of a number that no message could show: a hexadecimal one is read, and cannot be written down."""
    most = 10 ** sys.get_int_max_str_digits()
    waiting: list[tuple[str, Any]] = list(document.values.items())
    while waiting:
        key, value = waiting.pop()
        if isinstance(value, int) and abs(value) >= most:
            line = document.lines.get(key)
            reason = Message(N_("a number in `{key}` has thousands of digits"), {"key": key[:80]})
            message = Message(N_("The file cannot be read: {reason}."), {"reason": reason})
            return _unreadable(document.text, document.format, message, line)
        if isinstance(value, dict):
            waiting += [(key, inner) for inner in value.values()]
        elif isinstance(value, list):
            waiting += [(key, inner) for inner in value]
    return None
