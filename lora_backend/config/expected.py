"""What a key expects, in words, read from its type and bounds."""

from __future__ import annotations

import types
from functools import reduce
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel, StringConstraints
from pydantic.fields import FieldInfo

from lora_backend.config.schema import Key
from lora_backend.i18n import N_, Message, in_code


def expected(key: Key) -> Message:
    """For example “a whole number of at least 1”, or “one of: none, all, lora_only”."""
    return expected_of(key.annotation, key.info.metadata)


def expected_of(annotation: Any, metadata: list[Any]) -> Message:
    """The same of any type with pydantic's bounds."""
    return _in_words(annotation, metadata)


def _in_words(annotation: Any, metadata: list[Any]) -> Message:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        found: list[Any] = []
        for item in arguments[1:]:
            found += item.metadata if isinstance(item, FieldInfo) else [item]
        return _in_words(arguments[0], [*metadata, *found])
    if origin in (Union, types.UnionType):
        kinds = [item for item in arguments if item is not type(None)]
        if set(kinds) == {int, float}:
            return _number(N_("a number"), metadata)
        return reduce(_either, (_in_words(item, metadata) for item in kinds))
    if origin is Literal:
        return Message(N_("one of: {options}"), {"options": ", ".join(map(str, arguments))})
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return Message(N_("a mapping with {keys}"), {"keys": in_code(annotation.model_fields)})
    if origin is list:
        return Message(N_("a list, each entry {entry}"), {"entry": _in_words(arguments[0], [])})
    if origin is dict:
        is_either = get_origin(arguments[1]) in (Union, types.UnionType)
        entries = [_in_words(kind, []) for kind in (get_args(arguments[1]) if is_either else arguments[1:])]
        return Message(N_("a mapping of name to {entry}"), {"entry": reduce(_either_short, entries)})
    if annotation is bool:
        return Message(N_("true or false"))
    if annotation is int:
        return _number(N_("a whole number"), metadata)
    if annotation is float:
        return _number(N_("a number"), metadata)
    patterns = [str(item.pattern) for item in metadata if isinstance(item, StringConstraints) and item.pattern]
    if any("/" in pattern and "[^/" not in pattern for pattern in patterns):
        return Message(N_("a kernel on the hub, such as kernels-community/flash-attn2"))
    if patterns:
        return Message(N_("a folder's name, without slashes or a leading dot"))
    return Message(N_("a text"))


def _either(first: Message, second: Message) -> Message:
    return Message(N_("{first}; or {second}"), {"first": first, "second": second})


def _either_short(first: Message, second: Message) -> Message:
    return Message(N_("{first} or {second}"), {"first": first, "second": second})


def _number(kind: str, metadata: list[Any]) -> Message:
    bounds = []
    for item in sorted(metadata, key=lambda item: isinstance(item, Le | Lt)):  # from below first
        if isinstance(item, Ge):
            bounds.append(Message(N_("at least {bound}"), {"bound": item.ge}))
        elif isinstance(item, Gt):
            bounds.append(Message(N_("more than {bound}"), {"bound": item.gt}))
        elif isinstance(item, Le):
            bounds.append(Message(N_("at most {bound}"), {"bound": item.le}))
        elif isinstance(item, Lt):
            bounds.append(Message(N_("less than {bound}"), {"bound": item.lt}))
    number = Message(kind)
    for bound in bounds:
        number = Message(N_("{number}, {bound}"), {"number": number, "bound": bound})
    return number
