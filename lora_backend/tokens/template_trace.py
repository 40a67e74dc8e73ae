"""A chat template that also says which message it is writing, by marks that are taken out of its text again.

The template's own program is run, with a mark put where the loop over the messages begins anew, around each text of a
message and around what the template itself declares to be the assistant's. Two characters of a private area make a mark,
so what is left without them can be held against the text as transformers writes it; only then are the places believed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from jinja2 import Template, nodes
from jinja2.exceptions import TemplateError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

TURN, INNER, BACK, OPEN, CLOSE, GENERATED, GENERATED_END = range(7)
_KINDS, _NUMBERS, MOST = 0x10F000, 0x10C000, 0x3000
MARKS = re.compile("[\U0010f000-\U0010f00f][\U0010c000-\U0010efff]")
MARK_CHARACTERS = re.compile("[\U0010c000-\U0010f00f]")
"""A row that has one of these itself cannot be marked."""
_TURN_NAME, _INNER_NAME = "flightdeck_turn", "flightdeck_inner"
TEMPLATE_FAILURES = (TemplateError, ArithmeticError, TypeError, ValueError, AttributeError, LookupError, RecursionError)
"""What running a stranger's template may raise."""


def mark(kind: int, number: int = 0) -> str:
    """Two characters that say `kind` and `number` (below `MOST`)."""
    return chr(_KINDS + kind) + chr(_NUMBERS + number)


@dataclass(frozen=True, slots=True)
class Stretch:
    """Characters `begin` to `end` of a text, and what they belong to."""

    begin: int
    end: int
    of: int


@dataclass(frozen=True)
class Trace:
    """A text of a template, and who wrote what of it."""

    text: str
    turns: list[Stretch] = field(default_factory=list)
    """What is written while the loop stands at a message, `of` which it is the place; in order."""
    parts: list[Stretch] = field(default_factory=list)
    """Marked texts that were written from end to end."""
    generated: list[Stretch] = field(default_factory=list)
    """What the template declares to be the assistant's (`{% generation %}`)."""


class TracedTemplate:
    """One template, made ready once."""

    def __init__(self, source: str) -> None:
        environment = _environment()
        self._plain: Template = environment.from_string(source)
        tree = environment.parse(source)
        _WithMarks().visit(tree)
        tree.set_environment(environment)
        self._template: Template = environment.from_string(tree)
        self.has_generation_marks = any(_is_generation(block) for block in tree.find_all(nodes.CallBlock))

    def text(self, messages: Sequence[Mapping[str, Any]], **variables: Any) -> str:
        """Without marks: quicker than transformers, and to be held against its text where it matters. Raises one of
        `TEMPLATE_FAILURES` where the template does."""
        return self._plain.render(messages=list(messages), **variables)

    def trace(self, messages: Sequence[Mapping[str, Any]], **variables: Any) -> Trace:
        """Raises one of `TEMPLATE_FAILURES` where the template does."""
        places = {id(message): place for place, message in enumerate(messages)}

        def turn(value: object) -> str:
            place = places.get(id(value))
            return "" if place is None else mark(TURN, place)

        def inner(value: object, loop_value: object = None) -> str:
            place = places.get(id(value))
            return "" if place is None or id(loop_value) in places else mark(INNER, place)

        names: dict[str, Callable[..., str]] = {_TURN_NAME: turn, _INNER_NAME: inner}
        roles = [message.get("role") for message in messages]
        return _read(self._template.render(messages=list(messages), **names, **variables), roles)


def _read(marked: str, roles: Sequence[object]) -> Trace:
    trace = Trace(MARKS.sub("", marked))
    owner: int | None = None
    base: int | None = None
    begun = taken = 0
    opened: dict[int, int] = {}
    generated: list[int] = []

    def own(new: int | None, here: int) -> None:
        nonlocal owner, begun
        if owner is not None and here > begun and new != owner:
            trace.turns.append(Stretch(begun, here, owner))
        if new != owner or owner is None:
            owner, begun = new, here

    for found in MARKS.finditer(marked):
        kind, number = ord(found[0][0]) - _KINDS, ord(found[0][1]) - _NUMBERS
        here = found.start() - taken
        taken += 2
        if kind == TURN:
            base = number
            own(number, here)
        elif kind == INNER and (base is None or roles[number] == "tool"):
            own(number, here)
        elif kind == BACK:
            own(base, here)
        elif kind == OPEN:
            opened[number] = here
        elif kind == CLOSE and number in opened:
            trace.parts.append(Stretch(opened.pop(number), here, number))
        elif kind == GENERATED:
            generated.append(here)
        elif kind == GENERATED_END and generated:
            trace.generated.append(Stretch(generated.pop(), here, 0))
    own(None, len(trace.text))
    return trace


class _WithMarks(NodeTransformer):
    """Puts the marks in."""

    def __init__(self) -> None:
        self._loops: list[str | None] = []

    def visit_For(self, node: nodes.For) -> list[nodes.Node]:  # noqa: N802 - jinja's name
        target = node.target.name if isinstance(node.target, nodes.Name) else None
        self._loops.append(target)
        self.generic_visit(node)
        self._loops.pop()
        if not _writes(node.body):
            return [node]
        front = [_call(_TURN_NAME, target)] if target else []
        node.body = [*front, *node.body, _data(mark(BACK))]
        return [node, _data(mark(BACK))]

    def visit_Assign(self, node: nodes.Assign) -> list[nodes.Node]:  # noqa: N802 - jinja's name
        if not self._loops or not isinstance(node.target, nodes.Name):
            return [node]
        loop = self._loops[-1]
        return [node, _call(_INNER_NAME, node.target.name, *([loop] if loop else []))]

    def visit_CallBlock(self, node: nodes.CallBlock) -> nodes.Node:  # noqa: N802 - jinja's name
        self.generic_visit(node)
        if _is_generation(node):
            node.body = [_data(mark(GENERATED)), *node.body, _data(mark(GENERATED_END))]
        return node


def _is_generation(node: nodes.CallBlock) -> bool:
    return isinstance(node.call.node, nodes.ExtensionAttribute) and node.call.node.name == "written"


def _writes(body: Sequence[nodes.Node]) -> bool:
    """Whether a loop writes anything but the spaces between its tags and marks of ours."""
    return any(
        not isinstance(one, nodes.TemplateData) or one.data.strip()
        for part in body
        for output in ([part] if isinstance(part, nodes.Output) else part.find_all(nodes.Output))
        for one in output.nodes
        if not _is_mark(one)
    )


def _is_mark(node: nodes.Node) -> bool:
    if isinstance(node, nodes.TemplateData):
        return MARKS.fullmatch(node.data) is not None
    return isinstance(node, nodes.Call) and getattr(node.node, "name", None) in (_TURN_NAME, _INNER_NAME)


def _data(text: str) -> nodes.Node:
    return nodes.Output([nodes.TemplateData(text, lineno=1)], lineno=1)


def _call(name: str, *arguments: str) -> nodes.Node:
    given: list[nodes.Expr] = [nodes.Name(argument, "load", lineno=1) for argument in arguments]
    call = nodes.Call(nodes.Name(name, "load", lineno=1), given, [], None, None, lineno=1)
    return nodes.Output([call], lineno=1)


class _Generation(Extension):
    """`{% generation %}`: around what the assistant writes."""

    tags = {"generation"}  # noqa: RUF012 - as jinja declares it

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("written"), [], [], body).set_lineno(line)

    @staticmethod
    def written(caller: Callable[[], str]) -> str:
        return caller()


_PLAIN_OF_DICT = frozenset(dir(dict))
_PLAIN_OF_TEXT = frozenset(name for name in dir(str) if not name.startswith("_")) - {"format", "format_map"}


class _Sandbox(ImmutableSandboxedEnvironment):
    """Finds keys of messages and methods of texts without asking first whether they are safe: they are."""

    def getattr(self, obj: Any, attribute: str) -> Any:
        kind = type(obj)
        if kind is dict and attribute not in _PLAIN_OF_DICT:
            return obj[attribute] if attribute in obj else self.undefined(obj=obj, name=attribute)
        if kind is str and attribute in _PLAIN_OF_TEXT:
            return getattr(obj, attribute)
        return super().getattr(obj, attribute)


def _environment() -> _Sandbox:
    """As transformers makes it. What differs nevertheless is seen in the text, and the trace then not believed."""

    def refuse(message: str) -> None:
        raise TemplateError(message)

    environment = _Sandbox(trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols])
    environment.filters["tojson"] = _tojson
    environment.globals["raise_exception"] = refuse
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)  # noqa: DTZ005 - as transformers
    return environment


def _tojson(value: object, ensure_ascii: bool = False, **how: Any) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, **how)
