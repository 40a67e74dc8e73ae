"""Changes of a config: what a fix, a remedy or a form does to it, as one type."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Any, Final

from lora_backend.config.schema import KEYS, REQUIRED


class _Delete(Enum):
    DELETE = "delete"


DELETE: Final = _Delete.DELETE
"""In the place of a new value: the key is taken out, so that its default counts."""


class Patch(Mapping[str, Any]):
    """Key → its new value, or `DELETE`. None is a value like any other."""

    def __init__(self, changes: Mapping[str, Any] | None = None) -> None:
        self._changes = dict(changes or {})

    def __getitem__(self, key: str) -> Any:
        return self._changes[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._changes)

    def __len__(self) -> int:
        return len(self._changes)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Mapping) and self._changes == dict(other)

    __hash__ = None  # type: ignore[assignment]  # values may be lists

    def __repr__(self) -> str:
        return f"Patch({self._changes})"

    def __or__(self, other: Mapping[str, Any]) -> Patch:
        """Both, `other` winning."""
        return Patch({**self, **other})

    @property
    def sets(self) -> dict[str, Any]:
        """Key → value of those that get one."""
        return {key: value for key, value in self.items() if value is not DELETE}

    @property
    def deletes(self) -> list[str]:
        """The keys that are taken out."""
        return [key for key, value in self.items() if value is DELETE]

    def applied_to(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """`values` afterwards."""
        return {key: value for key, value in {**values, **self}.items() if value is not DELETE}

    def as_values(self) -> dict[str, Any]:
        """What each key says afterwards, its default where it is taken out: for a record that keeps values only."""
        return {key: _default(key) if value is DELETE else value for key, value in self.items()}

    def to_json(self) -> dict[str, Any]:
        """Plain data, null for a key that is taken out."""
        return {key: None if value is DELETE else value for key, value in self.items()}


def _default(key: str) -> Any:
    return KEYS[key].default if key in KEYS and KEYS[key].default is not REQUIRED else None
