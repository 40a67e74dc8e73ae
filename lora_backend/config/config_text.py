"""Config files: YAML with comments and order kept, JSON and TOML; where each key stands; the commented template."""

from __future__ import annotations

import copy
import datetime
import io
import json
import os
import re
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, ScalarNode
from ruamel.yaml.reader import ReaderError

from lora_backend.bounded import open_regular
from lora_backend.config.findings import Finding
from lora_backend.config.patch import DELETE, Patch
from lora_backend.config.schema import GROUPS, KEYS, REQUIRED
from lora_backend.config.token_limits import refuse_too_much
from lora_backend.config.traps import NO_BREAK_SPACES, misread_character, remedy_of_syntax
from lora_backend.config.yaml_limits import (
    MAX_DEPTH,
    TOO_DEEP,
    LimitedComposer,
    RefusedError,
    nodes_of,
    refuse_bad_value,
    refuse_long_tags,
    refuse_odd_keys,
)
from lora_backend.errors import ConfigError, FileRefusedError
from lora_backend.i18n import N_, Message, translate

Format = Literal["yaml", "json", "toml"]
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
        message = Message(N_("The file is not UTF-8 text (first at line {line})."), {"line": line})
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
    parsers = {"yaml": _parse_yaml, "json": _parse_json, "toml": _parse_toml}
    try:
        if file_format != "yaml":  # whose reader counts by itself
            refuse_too_much(text, file_format)
        document = parsers[file_format](text)
        return _number_of_thousands_of_digits(document) or document
    except RefusedError as error:
        return _unreadable(text, file_format, error.message, error.line, error.remedy)
    except RecursionError:
        # Brackets and dots were counted; what is left are TOML's tables with dotted keys in each other.
        dotted = (number for number, line in enumerate(text.split("\n"), start=1) if line.count(".") >= MAX_DEPTH)
        return _too_deep(text, file_format, next(dotted, 1))


def _first_too_deep(text: str) -> int | None:
    """The line where more than 100 brackets are open, which costs YAML's reader seconds; those in texts count too."""
    depth = 0
    for bracket in re.finditer(r"[\[{\]}]", text):
        depth = depth + 1 if bracket[0] in "[{" else max(depth - 1, 0)
        if depth > MAX_DEPTH:
            return _line_at(text, bracket.start())
    return None


def _line_at(text: str, position: int) -> int:
    return len(re.findall(r"\r\n?|\n", text[:position])) + 1


def _too_deep(text: str, file_format: Format, line: int) -> ConfigDocument:
    return _unreadable(text, file_format, Message(TOO_DEEP, {"line": line, "limit": MAX_DEPTH}), line)


def _too_large(size_bytes: int) -> Message:
    return Message(
        N_("The file has {size} bytes; a config has at most {limit}."), {"size": size_bytes, "limit": MAX_CONFIG_BYTES}
    )


def _unreadable(
    text: str, file_format: Format, message: Message, line: int | None, remedy: Message | None = None
) -> ConfigDocument:
    remedy = remedy or Message(N_("Fix the file there; none of it was used."))
    if line is None:
        remedy = Message(N_("Give a YAML, JSON or TOML file with one key per line."))
    return ConfigDocument(text, file_format, {}, {}, (Finding("error", "syntax", message, remedy, None, line),))


def _syntax(text: str, file_format: Format, line: int | None, reason: str) -> ConfigDocument:
    if line is None:
        return _unreadable(
            text, file_format, Message(N_("The file cannot be read: {reason}."), {"reason": reason}), None
        )
    remedy = None
    if file_format == "yaml":
        # YAML's reader stumbles only over what comes after a colon that is none.
        if odd := misread_character(text, line):
            line, character = odd
            if character in NO_BREAK_SPACES:
                return _no_break_space(text, line, character)
        remedy = remedy_of_syntax(text, line)
    values = {"line": line, "reason": reason}
    return _unreadable(text, file_format, Message(N_("Line {line} cannot be read: {reason}."), values), line, remedy)


def _no_break_space(text: str, line: int, character: str) -> ConfigDocument:
    values = {"line": line, "code": f"U+{ord(character):04X}"}
    message = Message(N_("Line {line} holds a no-break space ({code}), which YAML does not take as a space."), values)
    return _unreadable(text, "yaml", message, line, Message(N_("Replace it with an ordinary space.")))


def _duplicate(key: str, first: int, second: int) -> Finding:
    values = {"key": key, "first": first, "second": second}
    return Finding(
        "error",
        "duplicate_key",
        Message(N_("`{key}` stands twice, on line {first} and again on line {second}."), values),
        Message(N_("Keep one of the two lines."), {}),
        key,
        second,
    )


def _not_a_mapping(text: str, file_format: Format, first: int = 1, last: int = 1) -> ConfigDocument:
    """What the file holds instead goes from line `first` to line `last`."""
    line = first
    if file_format == "yaml" and (odd := misread_character(text, last, first)):
        line, character = odd
        if character in NO_BREAK_SPACES:
            return _no_break_space(text, line, character)
    message = Message(N_("The file does not hold keys with values at its top."))
    remedy = Message(N_("Write one `key: value` per line, for example `model_name: ./my-model`."))
    return _unreadable(text, file_format, message, line, remedy_of_syntax(text, line) or remedy)


# ---------------------------------------------------------------------------------------------- YAML


def _yaml() -> YAML:
    yaml = YAML(typ="rt")  # YAML 1.2: `1e-4` is a number, `no` is text
    yaml.Composer = LimitedComposer
    yaml.allow_duplicate_keys = True  # found below, with both lines
    yaml.preserve_quotes = True
    yaml.width = 4096
    return yaml


def _parse_yaml(text: str) -> ConfigDocument:
    if not text.strip():
        return ConfigDocument(text, "yaml", {}, {})
    try:
        refuse_long_tags(text)
        yaml = _yaml()
        root = yaml.compose(text)
        if root is None or root.value == "":  # only comments, or a line of dashes
            return ConfigDocument(text, "yaml", {}, {})
        first, last = root.start_mark.line + 1, root.end_mark.line + 1
        if not isinstance(root, MappingNode):
            return _not_a_mapping(text, "yaml", first, last)
        refuse_odd_keys(root)
        lines: dict[str, int] = {}
        written: dict[str, str] = {}
        problems: list[Finding] = []
        for mapping in nodes_of(root):
            if not isinstance(mapping, MappingNode):
                continue
            found: dict[str, int] = {}
            for key_node, _ in mapping.value:
                name, line = str(key_node.value), key_node.start_mark.line + 1
                if name in found:
                    problems.append(_duplicate(name, found[name], line))
                found[name] = line
            if mapping is root:
                lines = found
                written = {
                    str(key.value): value.value
                    for key, value in root.value
                    if isinstance(value, ScalarNode) and not value.style
                }
        try:
            loaded = _plain(yaml.constructor.construct_document(root))  # reading the text again would take as long
        except (ValueError, TypeError, LookupError, OverflowError, AttributeError, AssertionError):
            refuse_bad_value(root, _yaml().constructor)
            raise
        if not isinstance(loaded, dict):
            return _not_a_mapping(text, "yaml", first, last)
    except RefusedError as error:
        return _unreadable(text, "yaml", error.message, error.line, error.remedy)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        return _syntax(text, "yaml", mark.line + 1 if mark else None, str(error.problem or error.context))
    except ReaderError as error:
        line = _line_at(text, error.position)
        message = Message(N_("Line {line} holds the character {code}, which YAML does not allow."), {"line": line, "code": f"U+{error.character:04X}"})  # fmt: skip
        return _unreadable(text, "yaml", message, line, Message(N_("Remove that character.")))
    except (YAMLError, ValueError, TypeError, LookupError, OverflowError, AttributeError, AssertionError) as error:
        return _syntax(text, "yaml", None, (str(error).splitlines() or [type(error).__name__])[0][:200])
    values = {str(key): value for key, value in loaded.items()}
    return ConfigDocument(text, "yaml", values, lines, tuple(problems), written)


def _plain(value: Any) -> Any:
    """ruamel's own types → the built-in ones that they stand for."""
    if isinstance(value, Mapping):
        return {_plain(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, datetime.date | datetime.datetime):
        return value.isoformat()
    for kind in (int, float, str):  # ruamel's scalars are subclasses
        if isinstance(value, kind):
            return kind(value)
    return bool(value) if type(value).__name__ == "ScalarBoolean" else str(value)


# ---------------------------------------------------------------------------------------- JSON, TOML


def _parse_json(text: str) -> ConfigDocument:
    try:
        loaded = json.loads(text) if text.strip() else {}
    except json.JSONDecodeError as error:
        return _syntax(text, "json", error.lineno, error.msg)
    except ValueError as error:  # a number of thousands of digits
        return _syntax(text, "json", _line_of_digits(text), str(error).split(";")[0])
    if not isinstance(loaded, dict):
        return _not_a_mapping(text, "json")
    # JSON is YAML, whose reader knows where each key stands; what else Unicode calls a line end is none here.
    as_yaml = _parse_yaml(re.sub("[\x85\u2028\u2029]", " ", text.replace("\t", " ")))
    problems = tuple(problem for problem in as_yaml.problems if problem.code == "duplicate_key")
    return ConfigDocument(text, "json", loaded, as_yaml.lines, problems)


def _line_of_digits(text: str) -> int | None:
    """Where a number has more digits than Python turns into one."""
    found = re.search(rf"(?<![\d_])[\d_]{{{sys.get_int_max_str_digits() + 1},}}", text)
    return None if found is None else _line_at(text, found.start())


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


def _parse_toml(text: str) -> ConfigDocument:
    try:
        loaded = tomllib.loads(text)
    except ValueError as error:  # TOMLDecodeError is one, and so is a number of thousands of digits
        line = re.search(r"line (\d+)", str(error))
        reason = re.split(r" \(at|;", str(error))[0]
        return _syntax(text, "toml", int(line[1]) if line else _line_of_digits(text), reason)
    return ConfigDocument(text, "toml", _plain(loaded), _toml_lines(text))


def _toml_lines(text: str) -> dict[str, int]:
    """Where each key stands first; nothing where strings run over lines, for a line in one may look like a key."""
    if '"""' in text or "'''" in text:
        return {}
    lines: dict[str, int] = {}
    for number, line in enumerate(text.split("\n"), start=1):
        if match := re.match(r'\s*\[?"?(?P<key>[\w-]+)"?\s*[.=\]]', line):
            lines.setdefault(match["key"], number)
    return lines


# ------------------------------------------------------------------------------------------- writing


def dump_yaml(values: Mapping[str, Any]) -> str:
    """`values` as YAML, in their order."""
    out = io.StringIO()
    _yaml().dump(_plain(values), out)
    return out.getvalue()


def with_values(text: str, changes: Mapping[str, Any]) -> str:
    """YAML `text` with some keys set (or taken out: `DELETE`); the rest stays as written."""
    if not parse_config(text).is_readable:
        raise ConfigError(N_("The text cannot be read, so no key can be set in it. Fix it first."))
    yaml = _yaml()
    loaded = yaml.load(text)
    if not isinstance(loaded, CommentedMap):  # empty, or only comments
        head = text if not text or text.endswith("\n") else f"{text}\n"
        return head + dump_yaml(Patch(changes).sets)
    loaded.fa.set_block_style()  # a nested value has no place in `{a: 1}` on one line
    for key, value in changes.items():
        if value is DELETE:
            loaded.pop(key, None)
        else:
            loaded[key] = value
    out = io.StringIO()
    yaml.dump(loaded, out)
    return out.getvalue()


def template(values: Mapping[str, Any] | None = None, language: str | None = None) -> str:
    """The whole config, commented: every key with its help, at the value given or its default."""
    values = values or {}
    parts = []
    for group, title in GROUPS.items():
        parts.append(f"# {translate(title, language)}\n")
        for key in KEYS.values():
            if key.group != group:
                continue
            unit = f" [{translate(key.unit, language)}]" if key.unit else ""
            parts.append(f"# {translate(key.help, language)}{unit}\n")
            value = values.get(key.name, key.default)
            if value is REQUIRED:
                parts.append(f"{key.name}:   # {translate(N_('required'), language)}\n")
            else:
                parts.append(dump_yaml({key.name: value}))
        parts.append("\n")
    return "".join(parts).rstrip() + "\n"
