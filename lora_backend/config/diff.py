"""How a config differs from a base, value by value, nested values by their path."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Literal

from lora_backend.config.short_values import FOLD_ABOVE

Status = Literal["changed", "added", "missing", "unknown", "equal"]


class _Absent:
    def __reduce__(self) -> str:
        """By its name: it stays the one that there is when it goes to another process."""
        return "ABSENT"


ABSENT = _Absent()
"""Stands for the value of a side that does not have the key."""


@dataclass(frozen=True)
class DiffRow:
    """One key: `changed` both have it, `added` only the config, `missing` only the base, `unknown` to the schema."""

    key: str
    """`rank_pattern[q_proj]` for a value inside of another one."""
    status: Status
    base: Any
    value: Any

    @property
    def top_key(self) -> str:
        """The config's own key, without the path below it."""
        return self.key.partition("[")[0]


def diff_configs(values: Mapping[str, Any], base: Mapping[str, Any], known: Collection[str]) -> list[DiffRow]:
    """Every key of both, the base's order first. Numbers are equal by value (`1e-4` = `0.0001`), true is not 1."""
    rows = []
    for key in dict.fromkeys([*base, *values]):
        base_value, value = base.get(key, ABSENT), values.get(key, ABSENT)
        rows.append(DiffRow(key, _status(key, base_value, value, known), base_value, value))
    return rows


def diff_paths(values: Mapping[str, Any], base: Mapping[str, Any], known: Collection[str]) -> list[DiffRow]:
    """Like `diff_configs`, in the order of `known`, with a row for each value inside of a mapping."""
    order = {key: number for number, key in enumerate(known)}
    rows = sorted(diff_configs(values, base, known), key=lambda row: order.get(row.key, len(order)))
    return [inner for row in rows for inner in _inner_rows(row)]


@dataclass(frozen=True)
class Folded:
    """Rows of one key as one: the key with its whole values, and the rows that it stands for; none for a row as it is."""

    row: DiffRow
    inside: tuple[DiffRow, ...] = ()


def fold(rows: Sequence[DiffRow], values: Mapping[str, Any], base: Mapping[str, Any]) -> list[Folded]:
    """`rows` of `diff_paths`, those of a key that has more than `FOLD_ABOVE` of them together: a map of 80 blocks is one."""
    found = []
    for key, group in groupby(rows, key=lambda row: row.top_key):
        inside = tuple(group)
        if len(inside) <= FOLD_ABOVE:
            found += [Folded(row) for row in inside]
            continue
        statuses = {row.status for row in inside}
        status: Status = statuses.pop() if len(statuses) == 1 else "changed"
        found.append(Folded(DiffRow(key, status, base.get(key, ABSENT), values.get(key, ABSENT)), inside))
    return found


def is_difference(row: DiffRow, defaults: Mapping[str, Any]) -> bool:
    """Whether the two configs would do something else there: a key that one side lacks means its default."""
    if row.status in ("missing", "added") and "[" not in row.key:
        given = row.base if row.status == "missing" else row.value
        return not same_value(given, defaults.get(row.key))  # a required key without a value says nothing yet
    return row.status != "equal" and (row.value is not ABSENT or row.status == "missing")


def same_value(one: Any, other: Any) -> bool:
    """Whether two values mean the same; a bool is never a number."""
    if isinstance(one, bool) != isinstance(other, bool):
        return False
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same_value, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same_value(one[key], other[key]) for key in one)
    return bool(one == other)


def _status(key: str, base: Any, value: Any, known: Collection[str]) -> Status:
    if key not in known:
        return "unknown"
    if value is ABSENT:
        return "missing"
    if base is ABSENT:
        return "added"
    return "equal" if same_value(base, value) else "changed"


def _inner_rows(row: DiffRow) -> Iterator[DiffRow]:
    """The row itself, or one for each entry where a side is a mapping and the other one is no other kind of value."""
    sides = (row.base, row.value)
    mappings = [side for side in sides if isinstance(side, Mapping)]
    if not any(mappings) or not all(isinstance(side, Mapping) or side is ABSENT or side is None for side in sides):
        yield row
        return
    base, value = (
        {str(key): item for key, item in (side if isinstance(side, Mapping) else {}).items()} for side in sides
    )
    for key in dict.fromkeys([*base, *value]):
        one, other = base.get(key, ABSENT), value.get(key, ABSENT)
        status: Status = "unknown" if row.status == "unknown" else _status(key, one, other, (key,))
        yield from _inner_rows(DiffRow(f"{row.key}[{key}]", status, one, other))
