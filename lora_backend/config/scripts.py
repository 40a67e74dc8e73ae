"""The defaults of any training script, read from its source by syntax tree; nothing of it is ever run."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lora_backend.bounded import read_bytes
from lora_backend.config.constants import NotConstantError, constants_of, evaluate
from lora_backend.config.foreign.known import renamed
from lora_backend.config.yaml_limits import MAX_KEYS
from lora_backend.errors import ConfigError, FileRefusedError
from lora_backend.i18n import N_, Message

MAX_SCRIPT_BYTES = 256 * 1024
"""A script is written by hand; what is larger is another kind of file."""
MAX_MARKS = 60_000
_MARKS = dict.fromkeys("\n,;=(.+-*/%<>|&^~:@", 1) | {"[": 2, "{": 10, " if ": 2, " or ": 1, " and ": 1}
"""What makes nodes of a syntax tree, by what they cost; in comments and texts too. The longest trainer has 25,000."""
_NAMED = re.compile(r"default|config|args|param|setting|hyper", re.IGNORECASE)
_ABSENT = object()


@dataclass(frozen=True)
class Remark:
    """What the reader of a script should know; `name` is the script's own."""

    line: int
    name: str
    message: Message


@dataclass(frozen=True)
class Source:
    """What in a script holds defaults, and where it begins."""

    line: int
    name: Message


@dataclass(frozen=True)
class ScriptDefaults:
    """Values under our names where they are known, else under the script's own; `lines` count from 1.

    `values` can be the base of `diff_configs`. What has a default that cannot be told without running the script has
    no value and a remark.
    """

    values: dict[str, Any]
    lines: dict[str, int]
    remarks: tuple[Remark, ...]
    sources: tuple[Source, ...] = ()
    """In the order in which they count: of what several of them have, the first one's value is taken."""


@dataclass(frozen=True)
class _Found:
    """One option of the script: its default as a syntax tree, or none."""

    name: str
    line: int
    node: ast.expr | None = None
    value: Any = _ABSENT
    kind: str | None = None
    """The word given as `type` to argparse."""


def read_script(path: Path) -> ScriptDefaults:
    """The defaults of the script in a file. Raises `ConfigError` where it cannot be read or holds none."""
    try:
        data = read_bytes(path, MAX_SCRIPT_BYTES)
    except FileRefusedError as error:
        raise ConfigError(error.message.template, **error.message.values) from error
    except OSError as error:
        raise ConfigError(
            N_("{file} cannot be read: {reason}"), file=str(path), reason=error.strerror or str(error)
        ) from error
    return script_defaults(data.decode("utf-8-sig", "replace"))


def script_defaults(source: str) -> ScriptDefaults:
    """Read argparse options, dataclass fields and dict literals of a script, in this order; the first one counts.

    Raises `ConfigError` for a source that is too large, is no Python, or holds no defaults.
    """
    if len(source) > MAX_SCRIPT_BYTES:
        raise ConfigError(
            N_("The script has {size} characters; at most {limit} are read."), size=len(source), limit=MAX_SCRIPT_BYTES
        )
    if sum(source.count(mark) * weight for mark, weight in _MARKS.items()) > MAX_MARKS:
        raise ConfigError(
            N_(
                "The script holds too many expressions to be read here. Give the source of a training script, without generated tables."
            )
        )
    try:
        return _defaults_in(ast.parse(source.removeprefix("\ufeff")))
    except SyntaxError as error:
        raise ConfigError(
            N_("Line {line} of the script is no Python: {reason}."), line=error.lineno or 1, reason=error.msg
        ) from None
    except ConfigError:
        raise
    except (ValueError, RecursionError, MemoryError) as error:  # a null byte; brackets in brackets in brackets
        raise ConfigError(N_("The script cannot be read as Python. Give the source of a training script.")) from error


def _defaults_in(tree: ast.Module) -> ScriptDefaults:
    constants = constants_of(tree)
    nodes = list(ast.walk(tree))
    values: dict[str, Any] = {}
    lines: dict[str, int] = {}
    remarks: list[Remark] = []
    sources: list[Source] = []
    for name, options in (
        (Message(N_("the options of argparse")), list(_arguments(nodes, remarks))),
        *_dataclasses(nodes),
        *_literals(tree),
    ):
        if options:
            sources.append(Source(min(found.line for found in options), name))
        for found in options:
            _add(found, constants, values, lines, remarks)
    if len(lines) > MAX_KEYS:
        raise ConfigError(
            N_("The script has {count} defaults; at most {limit} are read."), count=len(lines), limit=MAX_KEYS
        )
    if not lines and not remarks:
        raise ConfigError(
            N_("The script holds no defaults: no add_argument, no dataclass, no dict at its top. Give another file.")
        )
    ours = renamed(values)
    return ScriptDefaults(
        {key: value for key, (_, value) in ours.items()},
        {key: lines[name] for key, (name, _) in ours.items()},
        tuple(sorted(remarks, key=lambda remark: remark.line)),
        tuple(sources),
    )


def _add(
    found: _Found, constants: dict[str, Any], values: dict[str, Any], lines: dict[str, int], remarks: list[Remark]
) -> None:
    name = found.name
    try:
        value = found.value if found.node is None else evaluate(found.node, constants)
    except NotConstantError:
        assert found.node is not None
        expression = ast.unparse(found.node)[:80]
        message = Message(N_("The default of `{name}` is `{expression}`, which only running the script would tell."), {"name": name, "expression": expression})  # fmt: skip
        remarks.append(Remark(found.line, name, message))
        lines.setdefault(name, found.line)
        return
    if value is _ABSENT:
        remarks.append(Remark(found.line, name, Message(N_("`{name}` has no default; it must be given."), {"name": name})))  # fmt: skip
        lines.setdefault(name, found.line)
        return
    value = _converted(value, found.kind)
    if name in values:
        if values[name] != value:
            message = Message(
                N_("`{name}` has another default on line {line}; that one is taken."),
                {"name": name, "line": lines[name]},
            )
            remarks.append(Remark(found.line, name, message))
        return
    values[name], lines[name] = value, found.line


# ------------------------------------------------------------------------------------------ argparse


def _arguments(nodes: list[ast.AST], remarks: list[Remark]) -> Iterator[_Found]:
    calls = [node for node in nodes if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)]
    for call in sorted(calls, key=lambda call: (call.lineno, call.col_offset)):
        keywords = {keyword.arg: keyword.value for keyword in call.keywords if keyword.arg}
        if _last_name(call.func) == "set_defaults":
            yield from (_Found(name, node.lineno, node) for name, node in keywords.items())
        if _last_name(call.func) == "add_argument" and (name := _destination(call, keywords)):
            yield from _argument(name, call.lineno, keywords, remarks)


def _argument(name: str, line: int, keywords: dict[str, ast.expr], remarks: list[Remark]) -> Iterator[_Found]:
    kind = _last_name(keywords["type"]) if "type" in keywords else None
    action = keywords.get("action")
    word = action.value if isinstance(action, ast.Constant) else None
    if kind == "bool":
        message = Message(N_("`{name}` is declared `type=bool`: any text counts as true, so `--{name} False` means True."), {"name": name})  # fmt: skip
        remarks.append(Remark(line, name, message))
    if word in ("help", "version"):
        return
    if "default" in keywords:
        yield _Found(name, line, keywords["default"], kind=kind)
    elif word in ("store_true", "store_false"):
        yield _Found(name, line, value=word == "store_false")
    elif isinstance(required := keywords.get("required"), ast.Constant) and required.value is True:
        yield _Found(name, line)
    else:
        yield _Found(name, line, value=None)


def _destination(call: ast.Call, keywords: dict[str, ast.expr]) -> str | None:
    """The name under which argparse keeps it: `dest`, else the first long option, else the first one."""
    if isinstance(dest := keywords.get("dest"), ast.Constant) and isinstance(dest.value, str):
        return dest.value
    names = [item.value for item in call.args if isinstance(item, ast.Constant) and isinstance(item.value, str)]
    name = next((name for name in names if name.startswith("--")), names[0] if names else "")
    if not name.startswith("-"):
        return None  # a positional one has no default
    return name.lstrip("-").replace("-", "_") or None


def _converted(value: Any, kind: str | None) -> Any:
    """As argparse does, a default that is text goes through `type`."""
    try:
        return {"int": int, "float": float}[kind](value) if kind and isinstance(value, str) else value
    except (KeyError, ValueError):
        return value


# ---------------------------------------------------------------------------------- dataclasses, dicts


def _dataclasses(nodes: list[ast.AST]) -> Iterator[tuple[Message, list[_Found]]]:
    classes = [node for node in nodes if isinstance(node, ast.ClassDef)]
    for node in sorted(classes, key=lambda node: node.lineno):
        if any(_last_name(mark) == "dataclass" for mark in node.decorator_list):
            fields = [
                _field(item.target.id, item)
                for item in node.body
                if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name)
            ]
            yield Message(N_("the dataclass `{name}`"), {"name": node.name}), fields


def _field(name: str, item: ast.AnnAssign) -> _Found:
    value = item.value
    if not isinstance(value, ast.Call) or _last_name(value.func) != "field":
        return _Found(name, item.lineno, value)
    keywords = {keyword.arg: keyword.value for keyword in value.keywords}
    if "default" in keywords:
        return _Found(name, item.lineno, keywords["default"])
    factory = keywords.get("default_factory")
    if isinstance(factory, ast.Lambda):
        return _Found(name, item.lineno, factory.body)
    if factory is not None:
        return _Found(name, item.lineno, ast.copy_location(ast.Call(factory, [], []), factory))
    return _Found(name, item.lineno)


def _literals(tree: ast.Module) -> Iterator[tuple[Message, list[_Found]]]:
    """The entries of the dict at the top that is called like a config, else of the largest one."""
    dicts: list[tuple[str, list[tuple[str, ast.expr]]]] = []
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []  # fmt: skip
        if targets and isinstance(targets[0], ast.Name) and isinstance(node, ast.Assign | ast.AnnAssign) and node.value:
            dicts.append((targets[0].id, _entries(node.value)))
    named = [item for item in dicts if _NAMED.search(item[0]) and item[1]]
    for called, entries in sorted(named or dicts, key=lambda item: len(item[1]), reverse=True)[:1]:
        yield (
            Message(N_("the dict `{name}`"), {"name": called}),
            [_Found(name, node.lineno, node) for name, node in entries],
        )


def _entries(node: ast.expr) -> list[tuple[str, ast.expr]]:
    if isinstance(node, ast.Dict):
        pairs = zip(node.keys, node.values, strict=True)
        return [(k.value, v) for k, v in pairs if isinstance(k, ast.Constant) and isinstance(k.value, str)]
    if isinstance(node, ast.Call) and _last_name(node.func) == "dict":
        return [(keyword.arg, keyword.value) for keyword in node.keywords if keyword.arg]
    return []


def _last_name(node: ast.expr) -> str:
    """`dataclass` of `@dataclasses.dataclass(frozen=True)`."""
    if isinstance(node, ast.Call):
        node = node.func
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
