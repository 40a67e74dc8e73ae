"""Follows text through the source of the pages, to where Streamlit gets it: what a test that reads code needs.

A text for a page is a literal, comes from `t`, `say` and their kin (or any function of ours that returns `Markdown`, which
mypy holds), or is put together of such. What cannot be followed counts as harmful: give the variable or the function its type.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "app.py", *(ROOT / "pages").rglob("*.py")])

ESCAPES = {"t", "say", "escape", "code", "bold", "joined", "explain", "sentence", "Markdown"}
TEXTS = {"t", "say", "t_plain", "say_plain", "visible", "visible_lines"}
FIGURES = {"len", "round", "gib", "size", "number", "when", "duration"}
"""They give figures of our own making; `str` only of a number."""
NUMBER_SPEC = re.compile(r"[^a-zA-Z]*[dfgeE%]|[+,]+")


@cache
def tree_of(path: Path) -> ast.Module:
    tree = ast.parse(path.read_text("utf-8"))
    for node in ast.walk(tree):
        for child in ast.iter_child_nodes(node):
            child.parent = node  # type: ignore[attr-defined]
    return tree


@cache
def giving(kind: str) -> frozenset[str]:
    """Functions of the pages that say that they return `kind`."""
    found = (node for path in PAGES for node in ast.walk(tree_of(path)) if isinstance(node, ast.FunctionDef))
    return frozenset(node.name for node in found if node.returns is not None and _is_named(node.returns, kind))


@cache
def giving_text() -> frozenset[str]:
    """Functions of the pages that return nothing but text that was made visible."""
    found = (node for path in PAGES for node in ast.walk(tree_of(path)) if isinstance(node, ast.FunctionDef))
    return frozenset(node.name for node in found if _returns_text(node))


def _returns_text(function: ast.FunctionDef) -> bool:
    given = [node.value for node in ast.walk(function) if isinstance(node, ast.Return)]
    return bool(given) and all(
        isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id in TEXTS for value in given
    )


def _is_named(annotation: ast.expr, kind: str) -> bool:
    """`Markdown`, `Markdown | None`, `list[Markdown]`, `dict[str, Markdown]` …"""
    words = set(re.findall(r"\w+", ast.unparse(annotation)))
    return kind in words and not words & {"str", "Any"} - ({"str"} if "dict" in words or "Mapping" in words else set())


@dataclass(frozen=True)
class Place:
    """An argument somewhere in the source."""

    path: Path
    node: ast.expr
    harmless: frozenset[str]
    kind: str

    def __str__(self) -> str:
        return f"{self.path.name}:{self.node.lineno}: {ast.unparse(self.node)[:100]}"

    def is_harmless(self, node: ast.expr | None = None, depth: int = 0) -> bool:
        node = self.node if node is None else node
        inner = lambda *parts: all(self.is_harmless(part, depth + 1) for part in parts)  # noqa: E731
        if depth > 12:
            return False
        match node:
            case ast.Constant():
                return True
            case ast.JoinedStr(values=parts):
                return inner(*parts)
            case ast.FormattedValue(value=value, format_spec=spec):
                text = (
                    "".join(str(part.value) for part in spec.values if isinstance(part, ast.Constant))
                    if isinstance(spec, ast.JoinedStr)
                    else ""
                )
                return bool(NUMBER_SPEC.fullmatch(text)) or inner(value)
            case ast.BinOp(op=ast.Add() | ast.Mult(), left=left, right=right):
                return inner(left, right)
            case ast.BinOp() | ast.Compare() | ast.UnaryOp():
                return True  # a number, or truth
            case ast.IfExp(body=body, orelse=other):
                return inner(body, other)
            case ast.BoolOp(values=values):
                return inner(*values)
            case ast.List(elts=elements) | ast.Tuple(elts=elements) | ast.Set(elts=elements):
                return inner(*elements)
            case ast.Starred(value=value):
                return inner(value)
            case ast.ListComp(elt=element) | ast.GeneratorExp(elt=element):
                return inner(element)
            case ast.Lambda(body=body):
                return inner(body)
            case ast.Call(func=ast.Name(id="Markdown"), args=arguments):
                return inner(*arguments)
            case ast.Call(func=ast.Name(id="str"), args=[argument]):
                return self._is_number(argument)
            case ast.Call(func=ast.Name(id=name)):
                return name in self.harmless
            case ast.Call(func=ast.Attribute(attr="join", value=ast.Constant()), args=[parts]):
                return self.kind == "text" and inner(parts)
            case ast.Name(id=name):
                return self._follows(name, depth)
            case ast.Subscript(value=ast.Name(id=name)):
                return self._follows(name, depth)
        return False

    def _is_number(self, node: ast.expr) -> bool:
        match node:
            case ast.Constant(value=int() | float()) | ast.BinOp(op=ast.Sub() | ast.Div() | ast.Mult()):
                return True
            case ast.Call(func=ast.Name(id="len" | "sum" | "round" | "int" | "float")):
                return True
            case ast.Attribute(attr=name):
                return name.startswith("num_") or name in ("step", "count", "total_steps", "line")
        return False

    def _follows(self, name: str, depth: int) -> bool:
        """Whether everything that a variable may hold is harmless."""
        scope: ast.AST = self.node
        while True:
            scope = getattr(scope, "parent", None) or scope
            if isinstance(scope, ast.FunctionDef | ast.Module | ast.Lambda):
                found = list(self._bindings(scope, name))
                if found:
                    return all(
                        isinstance(one, ast.expr) and self.is_harmless(one, depth + 1) if one is not True else True
                        for one in found
                    )
                if isinstance(scope, ast.Module):
                    return False

    def _bindings(self, scope: ast.AST, name: str) -> Iterator[ast.expr | bool | None]:
        """What is bound to `name`: an expression, True where its type says that it is harmless, None where it is not known."""
        kind = "Markdown" if self.kind == "markdown" else "Text"
        if isinstance(scope, ast.FunctionDef | ast.Lambda):
            for argument in [*scope.args.args, *scope.args.kwonlyargs, *scope.args.posonlyargs]:
                if argument.arg == name:
                    yield bool(argument.annotation is not None and _is_named(argument.annotation, kind)) or None
        for node in ast.walk(scope):
            match node:
                case ast.Assign(targets=targets, value=value):
                    for target in targets:
                        if isinstance(target, ast.Name) and target.id == name:
                            yield value
                        elif isinstance(target, ast.Tuple):
                            yield from _unpacked(target, value, name)
                case ast.AnnAssign(target=ast.Name(id=found), annotation=annotation, value=value) if found == name:
                    yield bool(_is_named(annotation, kind)) or value
                case ast.AugAssign(target=ast.Name(id=found), value=value) if found == name:
                    yield value
                case ast.NamedExpr(target=ast.Name(id=found), value=value) if found == name:
                    yield value
                case ast.For(target=target, iter=source) | ast.comprehension(target=target, iter=source):
                    if isinstance(target, ast.Name) and target.id == name:
                        yield source
                    elif any(isinstance(part, ast.Name) and part.id == name for part in ast.walk(target)):
                        rows = _elements(target, source, name)
                        yield from rows or [_typed_elements(scope, target, source, name, kind)]
                case ast.Call(func=ast.Attribute(value=ast.Name(id=found), attr="append"), args=[value]) if (
                    found == name
                ):
                    yield value


def _typed_elements(scope: ast.AST, target: ast.expr, source: ast.expr, name: str, kind: str) -> bool | None:
    """The same where the loop runs over a variable of the type `list[tuple[…]]`; True where the type says that it is harmless."""
    place = _place_in(target, name)
    names = {node.id for node in ast.walk(source) if isinstance(node, ast.Name)}
    for node in ast.walk(scope):
        match node:
            case ast.AnnAssign(
                target=ast.Name(id=found), annotation=ast.Subscript(slice=ast.Subscript(slice=ast.Tuple(elts=types)))
            ):
                if found in names and place and place[1] == len(types):
                    return _is_named(types[place[0]], kind) or None
    return None


def _unpacked(target: ast.Tuple, value: ast.expr, name: str) -> Iterator[ast.expr | None]:
    for place, part in enumerate(target.elts):
        if isinstance(part, ast.Name) and part.id == name:
            if isinstance(value, ast.Tuple) and len(value.elts) == len(target.elts):
                yield value.elts[place]
            elif (
                isinstance(value, ast.IfExp)
                and isinstance(value.body, ast.Tuple)
                and isinstance(value.orelse, ast.Tuple)
            ):
                yield value.body.elts[place]
                yield value.orelse.elts[place]
            else:
                yield None


def _elements(target: ast.expr, source: ast.expr, name: str) -> list[ast.expr | bool | None]:
    """What a loop over rows written out in the source gives to one of its variables."""
    rows = source.elts if isinstance(source, ast.List | ast.Tuple) else []
    place = _place_in(target, name)
    return [row.elts[place[0]] if place and isinstance(row, ast.Tuple) else None for row in rows]


def _place_in(target: ast.expr, name: str) -> tuple[int, int] | None:
    """Where a variable stands in the tuple of a loop that holds it, and how many there are."""
    for inner in ast.walk(target):
        if isinstance(inner, ast.Tuple):
            for place, part in enumerate(inner.elts):
                if isinstance(part, ast.Name) and part.id == name:
                    return place, len(inner.elts)
    return None
