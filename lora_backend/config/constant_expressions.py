"""The value of a constant expression in Python's syntax tree: literals, arithmetic, paths, names set before. Never runs it."""

from __future__ import annotations

import ast
import operator
from collections import Counter
from collections.abc import Callable
from typing import Any

MAX_NUMBER = 2.0**64
MAX_POWER = 64
MAX_TEXT = 10_000
"""Characters of a text, entries of a list: arithmetic on them may not grow without bound."""
_BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod, ast.Pow: operator.pow,
}  # fmt: skip
_UNARY: dict[type[ast.unaryop], Callable[[Any], Any]] = {
    ast.UAdd: operator.pos, ast.USub: operator.neg, ast.Not: operator.not_,
}  # fmt: skip
_DTYPES = {"bfloat16", "float16", "float32", "half", "float"}
"""Of torch's names, those that a config has words for."""


class NotConstantError(Exception):
    """The expression has no value that can be told without running the program."""


def constants_of(tree: ast.Module) -> dict[str, Any]:
    """Names that are set once, to a constant, at the top of a module or of a function, and are no parameter."""
    nodes = list(ast.walk(tree))
    functions = [node for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    parameters = {node.arg for node in nodes if isinstance(node, ast.arg)}
    stores = Counter(node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store))
    constants: dict[str, Any] = {}
    for node in [*tree.body, *(statement for function in functions for statement in function.body)]:
        if isinstance(node, ast.Assign) and len(node.targets) == 1:
            target: ast.expr = node.targets[0]
        elif isinstance(node, ast.AnnAssign) and node.value is not None:
            target = node.target
        else:
            continue
        is_constant = isinstance(target, ast.Name) and stores[target.id] == 1 and target.id not in parameters
        if is_constant and isinstance(target, ast.Name) and node.value is not None:
            try:
                constants[target.id] = evaluate(node.value, constants)
            except NotConstantError:
                continue
    return constants


def evaluate(node: ast.expr, constants: dict[str, Any]) -> Any:
    """The value of an expression. Raises `NotConstantError` where it is none of the few kinds that are known."""
    try:
        return _value(node, constants)
    except (ArithmeticError, TypeError, ValueError, RecursionError, KeyError) as error:
        raise NotConstantError from error


def _value(node: ast.expr, constants: dict[str, Any]) -> Any:
    match node:
        case ast.Constant(value=value) if value is None or isinstance(value, str | int | float):
            return value
        case ast.List(elts=items) | ast.Tuple(elts=items):
            return [_value(item, constants) for item in items]
        case ast.Set(elts=items):
            return sorted({_value(item, constants) for item in items})
        case ast.Dict(keys=keys, values=values):
            return {_value(key, constants): _value(item, constants) for key, item in _pairs(keys, values)}
        case ast.Name(id=name) if name in constants:
            return constants[name]
        case ast.Attribute(value=ast.Name(id="torch"), attr=name) if name in _DTYPES:
            return f"torch.{name}"
        case ast.UnaryOp(op=op, operand=operand) if type(op) in _UNARY:
            return _UNARY[type(op)](_value(operand, constants))
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
            return _computed(op, _value(left, constants), _value(right, constants))
        case ast.Call(func=func, args=args, keywords=[]):
            return _called(func, [_value(item, constants) for item in args])
    raise NotConstantError


def _pairs(keys: list[ast.expr | None], values: list[ast.expr]) -> list[tuple[ast.expr, ast.expr]]:
    if None in keys:  # `**other`
        raise NotConstantError
    return [(key, value) for key, value in zip(keys, values, strict=True) if key is not None]


def _computed(op: ast.operator, left: Any, right: Any) -> Any:
    """Arithmetic that cannot take long: `10**10**10` is left alone."""
    are_numbers = isinstance(left, int | float) and isinstance(right, int | float)
    if isinstance(op, ast.Div) and isinstance(left, str) and isinstance(right, str):
        return f"{left.rstrip('/')}/{right}"  # of paths
    is_small = are_numbers and max(abs(left), abs(right)) <= MAX_NUMBER
    if is_small and not (isinstance(op, ast.Pow) and abs(right) > MAX_POWER):
        result = _BINARY[type(op)](left, right)
        if isinstance(result, int | float) and abs(result) <= MAX_NUMBER**2:
            return result
    are_texts = isinstance(left, str | list) and type(left) is type(right)
    if are_texts and isinstance(op, ast.Add) and len(left) + len(right) <= MAX_TEXT:
        return left + right
    raise NotConstantError


def _called(func: ast.expr, arguments: list[Any]) -> Any:
    """`Path("x")` is its text; `list()` and its kind are empty, or what they are given."""
    name = func.attr if isinstance(func, ast.Attribute) else func.id if isinstance(func, ast.Name) else ""
    if name in ("Path", "PurePath", "PosixPath") and arguments and all(isinstance(item, str) for item in arguments):
        return "/".join(arguments)
    if name in ("list", "dict", "tuple", "set") and not arguments and isinstance(func, ast.Name):
        return {} if name == "dict" else []
    if name in ("int", "float", "str") and len(arguments) == 1 and isinstance(func, ast.Name):
        if isinstance(arguments[0], str) and len(arguments[0]) > 100:
            raise NotConstantError
        return {"int": int, "float": float, "str": str}[name](arguments[0])
    raise NotConstantError
