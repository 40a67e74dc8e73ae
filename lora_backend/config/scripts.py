"""The defaults of any training script, read from its source by syntax tree; nothing of it is ever run."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lora_backend.bounded import read_bytes
from lora_backend.config.accepted_values import takes
from lora_backend.config.constant_expressions import NotConstantError, constants_of, evaluate
from lora_backend.config.expected import expected
from lora_backend.config.findings import shorten
from lora_backend.config.foreign.key_meanings import meaning, renamed, targets_of
from lora_backend.config.schema import KEYS
from lora_backend.config.script_calls import call_options, classes_from_elsewhere
from lora_backend.config.script_options import (
    ABSENT,
    Group,
    Option,
    Remark,
    argparse_options,
    converted,
    dataclass_options,
    dict_options,
    function_options,
    likely_functions,
)
from lora_backend.config.yaml_limits import MAX_KEYS
from lora_backend.errors import ConfigError, FileRefusedError
from lora_backend.i18n import N_, Message

MAX_SCRIPT_BYTES = 256 * 1024
"""A script is written by hand; what is larger is another kind of file."""
MAX_MARKS = 60_000
_MARKS = dict.fromkeys("\n,;=(.+-*/%<>|&^~:@", 1) | {"[": 2, "{": 10, " if ": 2, " or ": 1, " and ": 1}
"""What makes nodes of a syntax tree, by what they cost; in comments and texts too. The longest trainer has 25,000."""


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
    """Read what a script declares, then what it hands to the libraries: argparse options, parameters of its function,
    dataclass fields, a dict's entries, keywords of calls. In this order; the first one counts.

    Raises `ConfigError` for a source that is too large, is no Python, or holds no defaults.
    """
    if len(source) > MAX_SCRIPT_BYTES:
        raise ConfigError(
            N_("The script has {size} characters; at most {limit} are read."), size=len(source), limit=MAX_SCRIPT_BYTES
        )
    if sum(source.count(mark) * weight for mark, weight in _MARKS.items()) > MAX_MARKS:
        raise ConfigError(
            N_(
                "The script has too many expressions to be read here. Use the source of a training script, without generated tables."
            )
        )
    try:
        return _defaults_in(ast.parse(source.removeprefix("\ufeff")))
    except SyntaxError as error:
        raise ConfigError(
            N_("Line {line} of the script is not valid Python: {reason}."), line=error.lineno or 1, reason=error.msg
        ) from None
    except ConfigError:
        raise
    except (ValueError, RecursionError, MemoryError) as error:  # a null byte; brackets in brackets in brackets
        raise ConfigError(N_("The script cannot be read as Python. Use the source of a training script.")) from error


def _defaults_in(tree: ast.Module) -> ScriptDefaults:
    nodes = list(ast.walk(tree))
    constants = constants_of(tree)
    values: dict[str, Any] = {}
    lines: dict[str, int] = {}
    elsewhere = list(classes_from_elsewhere(nodes))
    remarks: list[Remark] = []
    sources: list[Source] = []

    def read(groups: Iterable[Group]) -> None:
        for name, options in groups:
            if options:
                sources.append(Source(min(found.line for found in options), name))
            for found in options:
                _add(found, constants, values, lines, remarks)

    read([(Message(N_("the options of argparse")), list(argparse_options(nodes, remarks)))])
    read([*function_options(nodes), *dataclass_options(nodes), *dict_options(tree)])
    if not lines:
        read(likely_functions(nodes))
    declared = set(lines)
    read(call_options(nodes, declared))
    if len(lines) > MAX_KEYS:
        raise ConfigError(
            N_("The script has {count} defaults; at most {limit} are read."), count=len(lines), limit=MAX_KEYS
        )
    if not values and (elsewhere or not lines):
        raise _holds_nothing(elsewhere)
    remarks += [*elsewhere, *_not_here(values, lines)]
    ours = renamed(values)
    return ScriptDefaults(
        {key: value for key, (_, value) in ours.items()},
        {key: lines[name] for key, (name, _) in ours.items()},
        tuple(sorted(remarks, key=lambda remark: remark.line)),
        tuple(sources),
    )


def _holds_nothing(remarks: Sequence[Remark]) -> ConfigError:
    """Why there is nothing to compare with, and which file would do."""
    if remarks:
        return ConfigError(
            N_("The script has no defaults of its own. {remark} Use the config or command that starts it."),
            remark=remarks[0].message,
        )
    return ConfigError(
        N_(
            "The script has no defaults: no add_argument, no dataclass, no dict at its top level, no call of a config. Use another file."
        )
    )


def _add(
    found: Option, constants: dict[str, Any], values: dict[str, Any], lines: dict[str, int], remarks: list[Remark]
) -> None:
    name = found.name
    try:
        value = found.value if found.node is None else evaluate(found.node, constants)
    except NotConstantError:
        assert found.node is not None
        expression = ast.unparse(found.node)[:80]
        message = Message(
            N_("The default of `{name}` is `{expression}`, which cannot be known without running the script."),
            {"name": name, "expression": expression},
        )
        remarks.append(Remark(found.line, name, message))
        lines.setdefault(name, found.line)
        return
    if value is ABSENT:
        remarks.append(
            Remark(found.line, name, Message(N_("`{name}` has no default, so it must be set."), {"name": name}))
        )
        lines.setdefault(name, found.line)
        return
    value = converted(value, found.kind)
    if name in values:
        if values[name] != value:
            message = Message(
                N_("`{name}` has another default on line {line}, which is used."),
                {"name": name, "line": lines[name]},
            )
            remarks.append(Remark(found.line, name, message))
        return
    values[name], lines[name] = value, found.line


def _not_here(values: Mapping[str, Any], lines: Mapping[str, int]) -> Iterator[Remark]:
    """Values that ours cannot take, as a number of rows for a share of them; they are compared under their own names."""
    for name, value in values.items():
        carried = meaning(name, values) if targets_of(name) and value is not None else None
        if name in KEYS:
            if value is not None and not takes(name, value):
                said = {"name": name, "value": shorten(value), "expected": expected(KEYS[name])}
                message = Message(N_("`{name}` is {value} there, but must be {expected} here."), said)
                yield Remark(lines[name], name, message)
        elif carried is not None and carried.outcome == "not_supported":
            yield Remark(lines[name], name, carried.message)
