"""Questions to the schema that cross keys: which name a path, which the plan is asked, what another tool calls them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args, get_origin

from lora_backend.config.key_traits import Effect, PathKind
from lora_backend.config.schema import KEYS

WITHIN_TRAINER = frozenset({"training_arguments", "llamafactory", "trl"})
"""Tools whose configs hold the fields of transformers' TrainingArguments."""


def keys_of_path(kind: PathKind) -> tuple[str, ...]:
    """The keys that say where something lies, in the schema's order."""
    return tuple(name for name, key in KEYS.items() if key.path == kind)


DATA_KEYS = keys_of_path("rows")
"""Keys that name rows: one path, or a list of sets that have one each."""


def keys_of_group(group: str) -> tuple[str, ...]:
    """The keys that stand together in form and template."""
    return tuple(name for name, key in KEYS.items() if key.group == group)


def keys_affecting(*effects: Effect) -> frozenset[str]:
    """The keys of which another value may change one of these."""
    return frozenset(name for name, key in KEYS.items() if not key.affects.isdisjoint(effects))


def planned_keys() -> dict[str, type]:
    """Each key that the question to the plan has, with the type of its values as they stand in an address."""
    return {name: value_type(key.annotation) for name, key in KEYS.items() if key.plans}


def value_type(annotation: Any) -> type:
    """`bool`, `int`, `float` or `list` where a key takes such, else `str`; a number that may be whole is a `float`."""
    kinds = _kinds(annotation)
    return next((kind for kind in (list, bool, float, int) if kind in kinds), str)


def _kinds(annotation: Any) -> set[Any]:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _kinds(arguments[0])
    if origin is Literal:
        return {type(word) for word in arguments}
    if origin in (list, dict):
        return {origin}
    return set().union(*map(_kinds, arguments)) if arguments else {annotation}


def names_in(tool: str) -> Mapping[str, str]:
    """Our key → the tool's key with the same meaning; one whose values differ is translated by the tool's own module."""
    names = {name: key.trainer for name, key in KEYS.items() if key.trainer} if tool in WITHIN_TRAINER else {}
    return names | {name: key.foreign[tool] for name, key in KEYS.items() if tool in key.foreign}
