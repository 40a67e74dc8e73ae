"""Plain names among the expressions: letters, digits, `_`, `-` and dots. They are looked up and not matched one by one.

A model may have a hundred thousand names and a config thousands of patterns, most of them plain.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from lora_backend.expressions.matching import KEY, SAVED

_PLAIN = re.compile(r"[A-Za-z0-9_-]+(?:\\?\.[A-Za-z0-9_-]+)*")


class Endings:
    """The names that end in, or hold between their dots, what a plain expression says."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names
        self._has_line_breaks = any("\n" in name for name in names)  # which `.` and `$` treat in their own way
        self._by_depth: dict[int, dict[str, list[int]]] = {}
        self._dotted: list[str] | None = None
        self._parts: str | None = None
        self._joined: dict[tuple[str, str], bool] = {}

    def find(self, form: str, pattern: str) -> list[int] | None:
        """Indices of the names that `pattern` matches; None where it is not plain enough to be looked up."""
        if not _PLAIN.fullmatch(pattern):
            return None
        if not self._names:
            return []
        if form not in (KEY, SAVED) or self._has_line_breaks:
            return None
        if self._may_match_otherwise(pattern):
            return None
        text = pattern.replace("\\", "")
        if form == KEY:
            return self._ending(text.count(".") + 1).get(text, [])
        if self._dotted is None:
            self._dotted = [f".{name}." for name in self._names]
        return [index for index, name in enumerate(self._dotted) if f".{text}." in name]

    def _ending(self, depth: int) -> dict[str, list[int]]:
        """Last `depth` parts of a name → indices."""
        if depth not in self._by_depth:
            found: dict[str, list[int]] = {}
            for index, name in enumerate(self._names):
                parts = name.rsplit(".", depth)[-depth:]
                if len(parts) == depth:
                    found.setdefault(".".join(parts), []).append(index)
            self._by_depth[depth] = found
        return self._by_depth[depth]

    def _may_match_otherwise(self, pattern: str) -> bool:
        """Whether a bare dot could stand for another character: then one part of a name holds what is around it."""
        pieces = pattern.replace("\\.", "\\").split(".")  # at its bare dots alone
        lefts = [piece.rsplit("\\", 1)[-1] for piece in pieces[:-1]]
        rights = [piece.split("\\", 1)[0] for piece in pieces[1:]]
        return any(self._is_joined(pair) for pair in zip(lefts, rights, strict=True))

    def _is_joined(self, pair: tuple[str, str]) -> bool:
        if pair not in self._joined:
            if self._parts is None:
                self._parts = "\n".join({part for name in self._names for part in name.split(".")})
            left, right = map(re.escape, pair)
            self._joined[pair] = re.search(f"{left}.{right}", self._parts) is not None
        return self._joined[pair]
