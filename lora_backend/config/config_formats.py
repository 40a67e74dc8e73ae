"""YAML, JSON and TOML read into values, with the line of each key. What cannot be read is said with its line."""

from __future__ import annotations

import datetime
import io
import json
import re
import sys
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode
from ruamel.yaml.reader import ReaderError

from lora_backend.config.findings import Finding
from lora_backend.config.rules.file_rules import DUPLICATE_KEY
from lora_backend.config.yaml_limits import (
    LimitedComposer,
    UnreadableError,
    nodes_of,
    refuse_bad_value,
    refuse_long_tags,
    refuse_odd_keys,
)
from lora_backend.config.yaml_traps import NO_BREAK_SPACES, misread_character, remedy_of_syntax
from lora_backend.i18n import N_, Message

Format = Literal["yaml", "json", "toml"]
_BAD_VALUES = (ValueError, TypeError, LookupError, OverflowError, AttributeError, AssertionError)
"""What ruamel raises for a value that its tag or its look does not fit."""


@dataclass(frozen=True)
class Parsed:
    """What a file holds."""

    values: dict[str, Any] = field(default_factory=dict)
    lines: dict[str, int] = field(default_factory=dict)
    """Key at the top → its line, counted from 1."""
    problems: tuple[Finding, ...] = ()
    written: Mapping[str, str] = field(default_factory=dict)
    """Plain values (no quotes) of keys at the top, letter by letter: `08` was read as 8."""


def line_at(text: str, position: int) -> int:
    """The line, counted from 1, of a place in a text."""
    return len(re.findall(r"\r\n?|\n", text[:position])) + 1


def _syntax(line: int | None, reason: str) -> UnreadableError:
    if line is None:
        return UnreadableError(Message(N_("The file cannot be read: {reason}."), {"reason": reason}), None)
    values = {"line": line, "reason": reason}
    return UnreadableError(Message(N_("Line {line} cannot be read: {reason}."), values), line)


def _yaml_syntax(text: str, line: int | None, reason: str) -> UnreadableError:
    """YAML's reader stumbles only over what comes after a colon that is none."""
    if line is None:
        return _syntax(None, reason)
    if odd := misread_character(text, line):
        line, character = odd
        if character in NO_BREAK_SPACES:
            return _no_break_space(line, character)
    error = _syntax(line, reason)
    return UnreadableError(error.message, line, remedy_of_syntax(text, line))


def _no_break_space(line: int, character: str) -> UnreadableError:
    values = {"line": line, "code": f"U+{ord(character):04X}"}
    message = Message(
        N_("Line {line} contains a no-break space ({code}), which YAML does not treat as a space."), values
    )
    return UnreadableError(message, line, Message(N_("Replace it with an ordinary space.")))


def _not_a_mapping(text: str, line: int = 1) -> UnreadableError:
    message = Message(N_("The file has no keys and values at its top level."))
    remedy = Message(N_("Write one `key: value` per line, for example `model_name: ./my-model`."))
    return UnreadableError(message, line, remedy_of_syntax(text, line) or remedy)


def _yaml_not_a_mapping(text: str, root: Node) -> UnreadableError:
    first, last = root.start_mark.line + 1, root.end_mark.line + 1
    if odd := misread_character(text, last, first):
        first, character = odd
        if character in NO_BREAK_SPACES:
            return _no_break_space(first, character)
    return _not_a_mapping(text, first)


def _duplicate(key: str, first: int, second: int) -> Finding:
    return DUPLICATE_KEY.found_on(second, key, {"key": key, "first": first, "second": second})


# ---------------------------------------------------------------------------------------------- YAML


def yaml_reader() -> YAML:
    """ruamel's reader and writer that keeps comments and order, with our limits."""
    yaml = YAML(typ="rt")  # YAML 1.2: `1e-4` is a number, `no` is text
    yaml.Composer = LimitedComposer
    yaml.allow_duplicate_keys = True  # found below, with both lines
    yaml.preserve_quotes = True
    yaml.width = 4096
    return yaml


def plain_yaml(values: Mapping[Any, Any] | list[Any]) -> str:
    """`values` as YAML, in their order, in the writer's own style."""
    out = io.StringIO()
    yaml_reader().dump(plain(values), out)
    return out.getvalue()


def parse_yaml(text: str) -> Parsed:
    """Raises `UnreadableError`."""
    try:
        refuse_long_tags(text)
        yaml = yaml_reader()
        root = yaml.compose(text) if text.strip() else None
        if root is None or root.value == "":  # nothing, only comments, or a line of dashes
            return Parsed()
        if not isinstance(root, MappingNode):
            raise _yaml_not_a_mapping(text, root)
        refuse_odd_keys(root)
        loaded = _constructed(yaml, root)
        if not isinstance(loaded, dict):
            raise _yaml_not_a_mapping(text, root)
    except UnreadableError:
        raise
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise _yaml_syntax(text, mark.line + 1 if mark else None, str(error.problem or error.context)) from error
    except ReaderError as error:
        line = line_at(text, error.position)
        message = Message(
            N_("Line {line} contains the character {code}, which YAML does not allow."),
            {"line": line, "code": f"U+{error.character:04X}"},
        )
        raise UnreadableError(message, line, Message(N_("Remove that character."))) from error
    except (YAMLError, *_BAD_VALUES) as error:
        raise _syntax(None, (str(error).splitlines() or [type(error).__name__])[0][:200]) from error
    lines, problems = _places(root)
    values = {str(key): value for key, value in loaded.items()}
    return Parsed(values, lines, tuple(problems), _as_written(root))


def _constructed(yaml: YAML, root: MappingNode) -> Any:
    try:
        return plain(yaml.constructor.construct_document(root))  # reading the text again would take as long
    except _BAD_VALUES:
        refuse_bad_value(root, yaml_reader().constructor)
        raise


def _places(root: MappingNode) -> tuple[dict[str, int], list[Finding]]:
    """Key at the top → its line; and every key, also of inner mappings, that stands twice."""
    lines: dict[str, int] = {}
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
    return lines, problems


def _as_written(root: MappingNode) -> dict[str, str]:
    return {
        str(key.value): value.value for key, value in root.value if isinstance(value, ScalarNode) and not value.style
    }


def plain(value: Any) -> Any:
    """ruamel's own types → the built-in ones that they stand for."""
    if isinstance(value, Mapping):
        return {plain(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, datetime.date | datetime.datetime):
        return value.isoformat()
    for kind in (int, float, str):  # ruamel's scalars are subclasses
        if isinstance(value, kind):
            return kind(value)
    return bool(value) if type(value).__name__ == "ScalarBoolean" else str(value)


# ---------------------------------------------------------------------------------------- JSON, TOML


def parse_json(text: str) -> Parsed:
    """Raises `UnreadableError`."""
    try:
        loaded = json.loads(text) if text.strip() else {}
    except json.JSONDecodeError as error:
        raise _syntax(error.lineno, error.msg) from error
    except ValueError as error:  # a number of thousands of digits
        raise _syntax(_line_of_digits(text), str(error).split(";")[0]) from error
    if not isinstance(loaded, dict):
        raise _not_a_mapping(text)
    # JSON is YAML, whose reader knows where each key stands; what else Unicode calls a line end is none here.
    try:
        as_yaml = parse_yaml(re.sub("[\x85\u2028\u2029]", " ", text.replace("\t", " ")))
    except UnreadableError:
        as_yaml = Parsed()
    return Parsed(loaded, as_yaml.lines, as_yaml.problems)


def _line_of_digits(text: str) -> int | None:
    """Where a number has more digits than Python turns into one."""
    found = re.search(rf"(?<![\d_])[\d_]{{{sys.get_int_max_str_digits() + 1},}}", text)
    return None if found is None else line_at(text, found.start())


def parse_toml(text: str) -> Parsed:
    """Raises `UnreadableError`."""
    try:
        loaded = tomllib.loads(text)
    except ValueError as error:  # TOMLDecodeError is one, and so is a number of thousands of digits
        line = re.search(r"line (\d+)", str(error))
        reason = re.split(r" \(at|;", str(error))[0]
        raise _syntax(int(line[1]) if line else _line_of_digits(text), reason) from error
    return Parsed(plain(loaded), _toml_lines(text))


def _toml_lines(text: str) -> dict[str, int]:
    """Where each key stands first; nothing where strings run over lines, for a line in one may look like a key."""
    if '"""' in text or "'''" in text:
        return {}
    lines: dict[str, int] = {}
    for number, line in enumerate(text.split("\n"), start=1):
        if match := re.match(r'\s*\[?"?(?P<key>[\w-]+)"?\s*[.=\]]', line):
            lines.setdefault(match["key"], number)
    return lines


PARSERS: Mapping[Format, Callable[[str], Parsed]] = {"yaml": parse_yaml, "json": parse_json, "toml": parse_toml}
