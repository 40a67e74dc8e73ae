"""Questions to the schema that cross keys: which name a path, which the plan is asked, what another tool calls them."""

from __future__ import annotations

import types
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from lora_backend.config.key_traits import Effect, PathKind
from lora_backend.config.schema import KEYS, Key

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


def kind_of_values(annotation: Any) -> Any:
    """The type that a field of a key is for: optional and annotated ones without their wrapping."""
    if get_origin(annotation) in (Union, types.UnionType):
        kinds = [item for item in get_args(annotation) if item is not type(None)]
        return float if set(kinds) == {int, float} else kind_of_values(kinds[0])
    return kind_of_values(get_args(annotation)[0]) if hasattr(annotation, "__metadata__") else annotation


def takes_mapping(key: Key) -> bool:
    """Whether values may be mappings of names to values."""
    return any(get_origin(part) is dict for part in _alternatives(key))


def words_of(key: Key) -> list[Any] | None:
    """The words that a key takes, with true, false and nothing where it takes those; None where it takes more."""
    parts = _alternatives(key)
    if not any(get_origin(part) is Literal for part in parts):
        return None
    words: list[Any] = [None] if type(None) in parts else []
    words += [True, False] if bool in parts else []
    return words + [word for part in parts if get_origin(part) is Literal for word in get_args(part)]


def _alternatives(key: Key) -> tuple[Any, ...]:
    is_either = get_origin(key.annotation) in (Union, types.UnionType)
    return get_args(key.annotation) if is_either else (key.annotation,)


def _kinds(annotation: Any) -> set[Any]:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _kinds(arguments[0])
    if origin is Literal:
        return {type(word) for word in arguments}
    if origin in (list, dict):
        return {origin}
    return set().union(*map(_kinds, arguments)) if arguments else {annotation}


PATTERN_KEYS = tuple(name for name in keys_of_group(KEYS["r"].group) if takes_mapping(KEYS[name]))
"""Keys of the adapter that give a value of its own to each module whose name matches."""


def names_in(tool: str) -> Mapping[str, str]:
    """Our key → the tool's key with the same meaning; one whose values differ is translated by the tool's own module."""
    names = {name: key.trainer for name, key in KEYS.items() if key.trainer} if tool in WITHIN_TRAINER else {}
    return names | {name: key.foreign[tool] for name, key in KEYS.items() if tool in key.foreign}
