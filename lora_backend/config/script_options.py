"""What a script declares: options of argparse, fields of dataclasses, entries of a dict, parameters of its function."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from lora_backend.config.foreign.key_meanings import targets_of
from lora_backend.i18n import N_, Message

_NAMED = re.compile(r"default|config|args|param|setting|hyper", re.IGNORECASE)
ABSENT: Any = object()
"""Stands for “no default”, since None is one."""
RUNNERS = {"Fire", "run", "cli"}
"""`fire.Fire(train)`, `typer.run(train)`, `tyro.cli(train)`: the function's parameters are the script's options."""


@dataclass(frozen=True)
class Remark:
    """What the reader of a script should know; `name` is the script's own."""

    line: int
    name: str
    message: Message


@dataclass(frozen=True)
class Option:
    """One option of the script: its default as a syntax tree, or none."""

    name: str
    line: int
    node: ast.expr | None = None
    value: Any = ABSENT
    kind: str | None = None
    """The word given as `type` to argparse."""


FEW = 3
"""Parameters that make a function one that trains."""
Group = tuple[Message, list[Option]]
"""Options that stand together, and what they stand in."""


def last_name(node: ast.expr) -> str:
    """`dataclass` of `@dataclasses.dataclass(frozen=True)`."""
    if isinstance(node, ast.Call):
        node = node.func
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def keywords_of(call: ast.Call) -> dict[str, ast.expr]:
    """The arguments that are named."""
    return {keyword.arg: keyword.value for keyword in call.keywords if keyword.arg}


# ------------------------------------------------------------------------------------------ argparse


def argparse_options(nodes: Sequence[ast.AST], remarks: list[Remark]) -> Iterator[Option]:
    """Options of all parsers, in order."""
    calls = [node for node in nodes if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)]
    for call in sorted(calls, key=lambda call: (call.lineno, call.col_offset)):
        keywords = keywords_of(call)
        if last_name(call.func) == "set_defaults":
            yield from (Option(name, node.lineno, node) for name, node in keywords.items())
        if last_name(call.func) == "add_argument" and (name := _destination(call, keywords)):
            yield from _argument(name, call.lineno, keywords, remarks)


def _argument(name: str, line: int, keywords: dict[str, ast.expr], remarks: list[Remark]) -> Iterator[Option]:
    kind = last_name(keywords["type"]) if "type" in keywords else None
    action = keywords.get("action")
    word = action.value if isinstance(action, ast.Constant) else None
    if kind == "bool":
        message = Message(
            N_("`{name}` is declared `type=bool`: any text counts as true, so `--{name} False` means True."),
            {"name": name},
        )
        remarks.append(Remark(line, name, message))
    if word in ("help", "version"):
        return
    if "default" in keywords:
        yield Option(name, line, keywords["default"], kind=kind)
    elif word in ("store_true", "store_false"):
        yield Option(name, line, value=word == "store_false")
    elif isinstance(required := keywords.get("required"), ast.Constant) and required.value is True:
        yield Option(name, line)
    else:
        yield Option(name, line, value=None)


def _destination(call: ast.Call, keywords: dict[str, ast.expr]) -> str | None:
    """The name under which argparse keeps it: `dest`, else the first long option, else the first one."""
    if isinstance(dest := keywords.get("dest"), ast.Constant) and isinstance(dest.value, str):
        return dest.value
    names = [item.value for item in call.args if isinstance(item, ast.Constant) and isinstance(item.value, str)]
    name = next((name for name in names if name.startswith("--")), names[0] if names else "")
    if not name.startswith("-"):
        return None  # a positional one has no default
    return name.lstrip("-").replace("-", "_") or None


def converted(value: Any, kind: str | None) -> Any:
    """As argparse does, a default that is text goes through `type`."""
    try:
        return {"int": int, "float": float}[kind](value) if kind and isinstance(value, str) else value
    except (KeyError, ValueError):
        return value


# ---------------------------------------------------------------------------------- dataclasses, dicts


def dataclass_options(nodes: Sequence[ast.AST]) -> Iterator[Group]:
    """The fields of each dataclass, in order."""
    classes = [node for node in nodes if isinstance(node, ast.ClassDef)]
    for node in sorted(classes, key=lambda node: node.lineno):
        if any(last_name(mark) == "dataclass" for mark in node.decorator_list):
            fields = [
                _field(item.target.id, item)
                for item in node.body
                if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name)
            ]
            yield Message(N_("the dataclass `{name}`"), {"name": node.name}), fields


def _field(name: str, item: ast.AnnAssign) -> Option:
    value = item.value
    if not isinstance(value, ast.Call) or last_name(value.func) != "field":
        return Option(name, item.lineno, value)
    keywords = keywords_of(value)
    if "default" in keywords:
        return Option(name, item.lineno, keywords["default"])
    factory = keywords.get("default_factory")
    if isinstance(factory, ast.Lambda):
        return Option(name, item.lineno, factory.body)
    if factory is not None:
        return Option(name, item.lineno, ast.copy_location(ast.Call(factory, [], []), factory))
    return Option(name, item.lineno)


def dict_options(tree: ast.Module) -> Iterator[Group]:
    """The entries of the dict at the top that is called like a config, else of the largest one."""
    dicts: list[tuple[str, list[tuple[str, ast.expr]]]] = []
    for node in tree.body:
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        if targets and isinstance(targets[0], ast.Name) and isinstance(node, ast.Assign | ast.AnnAssign) and node.value:
            dicts.append((targets[0].id, _entries(node.value)))
    named = [item for item in dicts if _NAMED.search(item[0]) and item[1]]
    for called, entries in sorted(named or dicts, key=lambda item: len(item[1]), reverse=True)[:1]:
        yield (
            Message(N_("the dict `{name}`"), {"name": called}),
            [Option(name, node.lineno, node) for name, node in entries],
        )


def _entries(node: ast.expr) -> list[tuple[str, ast.expr]]:
    if isinstance(node, ast.Dict):
        pairs = zip(node.keys, node.values, strict=True)
        return [(k.value, v) for k, v in pairs if isinstance(k, ast.Constant) and isinstance(k.value, str)]
    if isinstance(node, ast.Call) and last_name(node.func) == "dict":
        return list(keywords_of(node).items())
    return []


# ------------------------------------------------------------------------------------------ functions


def function_options(nodes: Sequence[ast.AST]) -> Iterator[Group]:
    """The parameters of the functions that a command line is made of (fire, typer, tyro, click)."""
    run = {
        last_name(call.args[0])
        for call in nodes
        if isinstance(call, ast.Call) and last_name(call) in RUNNERS and call.args
    }
    functions = [node for node in nodes if isinstance(node, ast.FunctionDef)]
    for node in sorted(functions, key=lambda node: node.lineno):
        if node.name in run or any(last_name(mark) in ("command", "callback") for mark in node.decorator_list):
            yield Message(N_("the function `{name}`"), {"name": node.name}), _parameters(node)


def likely_functions(nodes: Sequence[ast.AST]) -> Iterator[Group]:
    """Functions with at least three parameters that are called like keys of ours, and have a default."""
    functions = [node for node in nodes if isinstance(node, ast.FunctionDef)]
    for node in sorted(functions, key=lambda node: node.lineno):
        options = [option for option in _parameters(node) if option.node is not None]
        if sum(bool(targets_of(option.name)) for option in options) >= FEW:
            yield Message(N_("the function `{name}`"), {"name": node.name}), options


def _parameters(node: ast.FunctionDef) -> list[Option]:
    arguments = node.args
    named = [*arguments.posonlyargs, *arguments.args]
    defaults: list[ast.expr | None] = [None] * (len(named) - len(arguments.defaults)) + list(arguments.defaults)
    pairs = [*zip(named, defaults, strict=True), *zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)]
    return [
        Option(argument.arg, argument.lineno, _default(default))
        for argument, default in pairs
        if argument.arg not in ("self", "cls", "ctx")
    ]


def _default(node: ast.expr | None) -> ast.expr | None:
    """`typer.Option(8, help=…)` is 8; `...` is no default."""
    if isinstance(node, ast.Call) and last_name(node) in ("Option", "Argument"):
        node = node.args[0] if node.args else keywords_of(node).get("default")
    return None if isinstance(node, ast.Constant) and node.value is ... else node
