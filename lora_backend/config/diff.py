"""How a config differs from a base, value by value."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Status = Literal["changed", "added", "missing", "unknown", "equal"]
ABSENT = object()
"""Stands for the value of a side that does not have the key."""


@dataclass(frozen=True)
class DiffRow:
    """One key: `changed` both have it, `added` only the config, `missing` only the base, `unknown` to the schema."""

    key: str
    status: Status
    base: Any
    value: Any


def diff_configs(values: Mapping[str, Any], base: Mapping[str, Any], known: Collection[str]) -> list[DiffRow]:
    """Every key of both, the base's order first. Numbers are equal by value (`1e-4` = `0.0001`), true is not 1."""
    rows = []
    for key in dict.fromkeys([*base, *values]):
        base_value, value = base.get(key, ABSENT), values.get(key, ABSENT)
        rows.append(DiffRow(key, _status(key, base_value, value, known), base_value, value))
    return rows


def _status(key: str, base: Any, value: Any, known: Collection[str]) -> Status:
    if key not in known:
        return "unknown"
    if value is ABSENT:
        return "missing"
    if base is ABSENT:
        return "added"
    return "equal" if same_value(base, value) else "changed"


def same_value(one: Any, other: Any) -> bool:
    """Whether two values mean the same; a bool is never a number."""
    if isinstance(one, bool) != isinstance(other, bool):
        return False
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same_value, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same_value(one[key], other[key]) for key in one)
    return bool(one == other)
