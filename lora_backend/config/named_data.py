"""What a config names of rows: each path with the key that it stands under, one or several in a key."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from lora_backend.config.key_queries import DATA_KEYS

TRAINED_ON = ("dataset", "datasets")
"""Keys of the rows that are trained on."""


@dataclass(frozen=True)
class NamedPath:
    """One path of rows, as it is written."""

    key: str
    path: str
    place: int | None = None
    """In the key's list, from 0; None where the key's value is the path itself."""
    share: float = 1
    """Times that each row comes in an epoch."""
    split: str | None = None


def paths_in(values: Mapping[str, Any]) -> Iterator[NamedPath]:
    """Each path of rows that `values` name, in the schema's order; what has another form than a key takes is passed over."""
    for key in DATA_KEYS:
        value = values.get(key)
        if isinstance(value, str) and value:
            yield NamedPath(key, value)
        for place, entry in enumerate(value) if isinstance(value, list) else ():
            if isinstance(entry, Mapping) and isinstance(entry.get("path"), str) and entry["path"]:
                yield NamedPath(key, entry["path"], place, _share(entry), _split(entry))


def trained_on(values: Mapping[str, Any]) -> list[NamedPath]:
    """Those of the sets that are trained on."""
    return [named for named in paths_in(values) if named.key in TRAINED_ON]


def with_paths(values: Mapping[str, Any], bound: Mapping[NamedPath, str]) -> dict[str, Any]:
    """`values` with other paths in the places of some."""
    found = dict(values)
    for named, path in bound.items():
        if named.place is None:
            found[named.key] = path
        else:
            entries = list(found[named.key])
            entries[named.place] = {**entries[named.place], "path": path}
            found[named.key] = entries
    return found


def data_key(values: Mapping[str, Any]) -> str:
    """The key that a sentence about the training data is about."""
    return "datasets" if values.get("datasets") and not values.get("dataset") else "dataset"


def rows_of_epoch(num_rows: int, share: float) -> int:
    """Rows that an epoch takes of a set of `num_rows`: at least one of a set that has a share."""
    return max(round(num_rows * share), 1) if num_rows and share else 0


def _share(entry: Mapping[str, Any]) -> float:
    share = entry.get("share", 1)
    is_number = isinstance(share, int | float) and not isinstance(share, bool)
    return share if is_number and math.isfinite(share) and share >= 0 else 1


def _split(entry: Mapping[str, Any]) -> str | None:
    split = entry.get("split")
    return split if isinstance(split, str) and split else None
