"""Config files: YAML with comments and order kept, JSON and TOML; where each key stands; the commented template."""

from __future__ import annotations

import datetime
import io
import json
import math
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from lora_backend.config.findings import Finding
from lora_backend.config.schema import GROUPS, KEYS, REQUIRED
from lora_backend.config.traps import remedy_of_syntax
from lora_backend.errors import ConfigError
from lora_backend.i18n import N_, Message, translate

Format = Literal["yaml", "json", "toml"]
MAX_CONFIG_BYTES = 512 * 1024
"""A config is written by hand; what is larger is another kind of file."""


MAX_NODES = 100_000
"""Values in a document, aliases written out."""
MAX_DEPTH = 100
"""Brackets that are open at once."""


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

    @property
    def is_readable(self) -> bool:
        return not any(problem.code == "syntax" for problem in self.problems)


def read_config(path: Path) -> ConfigDocument:
    """Read a file. `ConfigError` where there is none; whatever is wrong inside is among `problems`."""
    try:
        size_bytes = path.stat().st_size
        data = path.read_bytes() if size_bytes <= MAX_CONFIG_BYTES else b""
    except FileNotFoundError:
        raise ConfigError(N_("There is no config file {path}. Check the path."), path=str(path)) from None
    except OSError as error:
        raise ConfigError(
            N_("The config file {path} cannot be read: {reason}. Check the path and its permissions."),
            path=str(path),
            reason=error.strerror or str(error),
        ) from error
    if size_bytes > MAX_CONFIG_BYTES:
        return _unreadable("", "yaml", _too_large(size_bytes), None)
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
    """Parse `text`; never raises for what is in it."""
    if len(text) > MAX_CONFIG_BYTES:
        return _unreadable(text, file_format, _too_large(len(text.encode())), None)
    if _is_nested_too_deeply(text):
        return _unreadable(text, file_format, Message(N_("The file is nested too deeply to be a config.")), None)
    parsers = {"yaml": _parse_yaml, "json": _parse_json, "toml": _parse_toml}
    try:
        return parsers[file_format](text)
    except RecursionError:
        return _unreadable(text, file_format, Message(N_("The file is nested too deeply to be a config.")), None)


def _is_nested_too_deeply(text: str) -> bool:
    """Whether more than 100 brackets are open at once, which costs YAML's reader seconds; those in texts count too."""
    depth = 0
    for bracket in re.finditer(r"[\[{\]}]", text):
        depth = depth + 1 if bracket[0] in "[{" else max(depth - 1, 0)
        if depth > MAX_DEPTH:
            return True
    return False


def _too_large(size_bytes: int) -> Message:
    return Message(
        N_("The file has {size} bytes; a config has at most {limit}."), {"size": size_bytes, "limit": MAX_CONFIG_BYTES}
    )


def _unreadable(text: str, file_format: Format, message: Message, line: int | None) -> ConfigDocument:
    remedy = Message(N_("Mend the file at that place; nothing of it was used."))
    if line is not None and file_format == "yaml":
        remedy = remedy_of_syntax(text, line) or remedy
    if line is None:
        remedy = Message(N_("Give a YAML, JSON or TOML file with one key per line."))
    return ConfigDocument(text, file_format, {}, {}, (Finding("error", "syntax", message, remedy, None, line),))


def _syntax(text: str, file_format: Format, line: int | None, reason: str) -> ConfigDocument:
    if line is None:
        return _unreadable(
            text, file_format, Message(N_("The file cannot be read: {reason}."), {"reason": reason}), None
        )
    values = {"line": line, "reason": reason}
    return _unreadable(text, file_format, Message(N_("Line {line} cannot be read: {reason}."), values), line)


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


def _not_a_mapping(text: str, file_format: Format) -> ConfigDocument:
    message = Message(N_("The file does not hold keys with values at its top."))
    remedy = remedy_of_syntax(text, 1) or Message(
        N_("Write one `key: value` per line, for example `model_name: ./my-model`.")
    )
    return ConfigDocument(text, file_format, {}, {}, (Finding("error", "syntax", message, remedy, None, 1),))


# ---------------------------------------------------------------------------------------------- YAML


def _yaml() -> YAML:
    yaml = YAML(typ="rt")  # YAML 1.2: `1e-4` is a number, `no` is text
    yaml.allow_duplicate_keys = True  # found below, with both lines
    yaml.preserve_quotes = True
    yaml.width = 4096
    return yaml


def _parse_yaml(text: str) -> ConfigDocument:
    if not text.strip():
        return ConfigDocument(text, "yaml", {}, {})
    try:
        yaml = _yaml()
        root = yaml.compose(text)
        if root is None or root.value == "":  # only comments, or a line of dashes
            return ConfigDocument(text, "yaml", {}, {})
        if not isinstance(root, MappingNode):
            return _not_a_mapping(text, "yaml")
        if _expanded_size(root) > MAX_NODES:
            message = Message(
                N_("The file holds more than {limit} values, aliases (& and *) written out."), {"limit": MAX_NODES}
            )
            return _unreadable(text, "yaml", message, None)
        lines: dict[str, int] = {}
        written: dict[str, str] = {}
        problems: list[Finding] = []
        for mapping in _mappings(root):
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
        loaded = _plain(yaml.constructor.construct_document(root))  # reading the text again would take as long
        if not isinstance(loaded, dict):
            return _not_a_mapping(text, "yaml")
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        return _syntax(text, "yaml", mark.line + 1 if mark else None, str(error.problem or error.context))
    except (YAMLError, ValueError, TypeError, LookupError, OverflowError, AttributeError) as error:
        # A character that YAML forbids, a date or number that is none, a list in the place of a key.
        return _syntax(text, "yaml", None, (str(error).splitlines() or [type(error).__name__])[0][:200])
    values = {str(key): value for key, value in loaded.items()}
    return ConfigDocument(text, "yaml", values, lines, tuple(problems), written)


def _mappings(root: Node) -> Iterator[MappingNode]:
    """Every mapping of a document, the outermost first; one that aliases share comes once."""
    seen: set[int] = set()
    waiting = [root]
    while waiting:
        node = waiting.pop(0)
        if id(node) in seen or not isinstance(node, MappingNode | SequenceNode):
            continue
        seen.add(id(node))
        if isinstance(node, MappingNode):
            yield node
            waiting += [value for _, value in node.value]
        else:
            waiting += node.value


def _expanded_size(root: Node) -> float:
    """How many values a document has once its aliases are written out; infinite where one contains itself.

    Aliases share their node, so this is counted once a node, however large the document would grow.
    """
    sizes: dict[int, float] = {}

    def size(node: Node) -> float:
        if id(node) not in sizes:
            sizes[id(node)] = math.inf  # until it is known; whoever meets it then is inside it
            children = (
                [child for pair in node.value for child in pair] if isinstance(node, MappingNode)
                else node.value if isinstance(node, SequenceNode) else []
            )  # fmt: skip
            sizes[id(node)] = 1 + sum(map(size, children))
        return sizes[id(node)]

    return size(root)


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
        return _syntax(text, "json", None, str(error))
    if not isinstance(loaded, dict):
        return _not_a_mapping(text, "json")
    # JSON is YAML, whose reader knows where each key stands; what else Unicode calls a line end is none here.
    as_yaml = _parse_yaml(re.sub("[\x85\u2028\u2029]", " ", text.replace("\t", " ")))
    problems = tuple(problem for problem in as_yaml.problems if problem.code == "duplicate_key")
    return ConfigDocument(text, "json", loaded, as_yaml.lines, problems)


def _parse_toml(text: str) -> ConfigDocument:
    try:
        loaded = tomllib.loads(text)
    except ValueError as error:  # TOMLDecodeError is one, and so is a number of thousands of digits
        line = re.search(r"line (\d+)", str(error))
        return _syntax(text, "toml", int(line[1]) if line else None, str(error).split(" (at")[0])
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
    """YAML `text` with some keys set (or, where the new value is `REQUIRED`, taken out); the rest stays as written."""
    if not parse_config(text).is_readable:
        raise ConfigError(N_("The text cannot be read, so no key can be set in it. Mend it first."))
    yaml = _yaml()
    loaded = yaml.load(text)
    if not isinstance(loaded, CommentedMap):  # empty, or only comments
        head = text if not text or text.endswith("\n") else f"{text}\n"
        return head + dump_yaml({key: value for key, value in changes.items() if value is not REQUIRED})
    loaded.fa.set_block_style()  # a nested value has no place in `{a: 1}` on one line
    for key, value in changes.items():
        if value is REQUIRED:
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
            unit = f" [{key.unit}]" if key.unit else ""
            parts.append(f"# {translate(key.help, language)}{unit}\n")
            value = values.get(key.name, key.default)
            if value is REQUIRED:
                parts.append(f"{key.name}:   # {translate(N_('required'), language)}\n")
            else:
                parts.append(dump_yaml({key.name: value}))
        parts.append("\n")
    return "".join(parts).rstrip() + "\n"
