"""Two edits of one text that began from the same: both, where they do not touch the same keys."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from lora_backend.config.config_text import ConfigDocument, parse_config
from lora_backend.config.config_writing import with_values
from lora_backend.config.diff import ABSENT, same_value
from lora_backend.config.patch import DELETE, Patch

Change = tuple[int, int, list[str]]
"""Lines of the base, from and to, and what stands there instead."""


def merged(base: str, mine: str, theirs: str) -> str | None:
    """`theirs` with what `mine` changes of `base`; None where both change one key, or a text cannot be read.

    Lines are merged first, which keeps comments of both; whatever comes of it has to say just what the keys say.
    """
    documents = [parse_config(text) for text in (base, mine, theirs)]
    if not all(document.is_readable and not document.problems for document in documents):
        return None
    began, one, other = documents
    my_changes, their_changes = _changes(began, one), _changes(began, other)
    if any(not _is_same(my_changes[key], their_changes[key]) for key in my_changes.keys() & their_changes.keys()):
        return None
    wanted = (Patch(their_changes) | my_changes).applied_to(began.values)
    together = _by_lines(base, mine, theirs)
    if together is not None and _says(together, wanted):
        return together
    if with_values(base, my_changes) != mine:  # comments and order have changed too, and would be lost
        return None
    together = with_values(theirs, my_changes)
    return together if _says(together, wanted) else None


def _changes(base: ConfigDocument, text: ConfigDocument) -> dict[str, Any]:
    """Key → its new value, or `DELETE`."""
    keys = dict.fromkeys([*base.values, *text.values])
    return {
        key: text.values.get(key, DELETE)
        for key in keys
        if not _is_same(base.values.get(key, ABSENT), text.values.get(key, ABSENT))
    }


def _is_same(one: Any, other: Any) -> bool:
    return type(one) is type(other) and same_value(one, other)


def _says(text: str, values: Mapping[str, Any]) -> bool:
    document = parse_config(text)
    return document.is_readable and not document.problems and same_value(document.values, dict(values))


def _by_lines(base: str, mine: str, theirs: str) -> str | None:
    """Both edits, line by line; None where they touch the same lines in different ways."""
    lines = base.splitlines(keepends=True)
    my_changes, their_changes = (_of_lines(lines, text.splitlines(keepends=True)) for text in (mine, theirs))
    mine_alone = [change for change in my_changes if change not in their_changes]
    if any(_touch(one, other) for one in mine_alone for other in their_changes):
        return None
    # From the end, so that places stay what they are; of two at one place the shorter stretch of the base comes first.
    for start, end, new in sorted([*mine_alone, *their_changes], key=lambda change: change[:2], reverse=True):
        lines[start:end] = new
    return "".join(lines)


def _of_lines(base: Sequence[str], text: Sequence[str]) -> list[Change]:
    matcher = difflib.SequenceMatcher(None, base, text, autojunk=False)
    return [(i, j, list(text[k:m])) for tag, i, j, k, m in matcher.get_opcodes() if tag != "equal"]


def _touch(one: Change, other: Change) -> bool:
    """Whether two stretches of the base share a line, or one is put into the midst of the other."""
    return max(one[0], other[0]) < min(one[1], other[1]) or any(
        inner[0] == inner[1] and outer[0] < inner[0] < outer[1] for inner, outer in ((one, other), (other, one))
    )
