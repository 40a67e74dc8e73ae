"""Changes of a YAML text that touch the lines of the keys that change, and nothing else.

The text is cut at the marks of its nodes, so comments, quotes, spaces and the style of lists stay as they were written. What
cannot be cut (a mapping on one line, anchors, `? key`) is left to a writer that goes over the whole text.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from lora_backend.config.config_formats import plain_yaml, yaml_reader
from lora_backend.config.patch import DELETE

QUOTES = ("'", '"')


class UncutError(ValueError):
    """A text, or a place in it, that cannot be changed by its lines alone."""


@dataclass(frozen=True)
class _Entry:
    """One key of a mapping with its value, as nodes."""

    key: Node
    value: Node


@dataclass
class _Cuts:
    """A text, and what shall stand in the place of stretches of it."""

    text: str
    made: list[tuple[int, int, str]] = field(default_factory=list)

    def replace(self, start: int, end: int, new: str) -> None:
        self.made.append((start, end, new))

    def applied(self) -> str:
        text = self.text
        for start, end, new in sorted(self.made, key=lambda cut: cut[:2], reverse=True):
            text = text[:start] + new + text[end:]
        return text

    def line_start(self, index: int) -> int:
        return self.text.rfind("\n", 0, index) + 1

    def line_end(self, index: int) -> int:
        """Before the line's end of line."""
        end = self.text.find("\n", index)
        end = len(self.text) if end < 0 else end
        return end - 1 if self.text[end - 1 : end] == "\r" and end > index else end

    def after_line(self, index: int) -> int:
        end = self.text.find("\n", index)
        return len(self.text) if end < 0 else end + 1

    @property
    def newline(self) -> str:
        return "\r\n" if "\r\n" in self.text else "\n"


def edited(text: str, values: Mapping[str, Any], changes: Mapping[str, Any]) -> str:
    """`text`, which says `values`, with some keys set or taken out. A key that is new takes the line of the one that the
    changes took out before it, as a rename does; else it comes last. Raises `UncutError`."""
    root = yaml_reader().compose(text)
    if not isinstance(root, MappingNode) or root.flow_style or not root.value:
        raise UncutError
    cuts = _Cuts(text)
    last = _change_mapping(cuts, root, values, changes)
    if last:
        if text and not text.endswith("\n"):
            last = [cuts.newline.join(["", *last])]
        cuts.replace(len(text), len(text), cuts.newline.join(last) + cuts.newline)
    return cuts.applied()


def _change_mapping(
    cuts: _Cuts, mapping: MappingNode, values: Mapping[str, Any], changes: Mapping[str, Any]
) -> list[str]:
    """Cut a block mapping; the lines of keys that have no place in it yet."""
    indent = mapping.value[0][0].start_mark.column
    entries = {str(key.value): _Entry(key, value) for key, value in mapping.value}
    if len(entries) != len(mapping.value):
        raise UncutError  # a key that stands twice
    free: dict[str, list[tuple[str, Any]]] = {}
    last: list[str] = []
    place: str | None = None
    for key, value in changes.items():
        if value is DELETE:
            if key in entries:
                place = key
                free[key] = []
        elif key in entries:
            # `010` is 10 already, and whoever sets it to 10 wants it so written
            old = ... if type(value) is int else values.get(key)
            _set(cuts, entries[key], old, value, indent)
        elif place is not None:
            free[place].append((key, value))
        else:
            last += _lines(key, value, indent)
    for key, instead in free.items():
        _take_out(cuts, entries[key], values.get(key), instead, indent)
    return last


def _take_out(cuts: _Cuts, entry: _Entry, old: Any, instead: Sequence[tuple[str, Any]], indent: int) -> None:
    """Remove an entry's lines, or rename it and put what else comes in its place behind it."""
    start, end = cuts.line_start(entry.key.start_mark.index), _end(cuts, entry)
    if cuts.text[start : entry.key.start_mark.index].strip():
        raise UncutError
    if not instead:
        cuts.replace(start, cuts.after_line(end), "")
        return
    (name, value), *others = instead
    cuts.replace(entry.key.start_mark.index, entry.key.end_mark.index, name)
    _set(cuts, entry, old, value, indent)
    more = [line for key, one in others for line in _lines(key, one, indent)]
    if more:
        at = cuts.line_end(end)
        cuts.replace(at, at, cuts.newline + cuts.newline.join(more))


def _set(cuts: _Cuts, entry: _Entry, old: Any, new: Any, indent: int) -> None:
    if _is_same(old, new):
        return
    node = entry.value
    if node.start_mark.index < entry.key.end_mark.index:
        raise UncutError  # an alias
    if isinstance(node, SequenceNode) and isinstance(new, list) and new and _set_list(cuts, node, old, new):
        return
    if isinstance(node, MappingNode) and isinstance(new, Mapping) and new and not node.flow_style:
        _set_mapping(cuts, node, old, new)
        return
    colon = cuts.text.index(":", entry.key.end_mark.index) + 1
    if isinstance(node, ScalarNode) and node.style not in ("|", ">") and not isinstance(new, list | Mapping):
        written = _scalar(new, node.style)
        if node.start_mark.index == node.end_mark.index:
            cuts.replace(colon, colon, f" {written}")
        else:
            cuts.replace(node.start_mark.index, node.end_mark.index, written)
        return
    end = _end(cuts, entry)
    comment = cuts.text[end : cuts.line_end(end)]
    if cuts.text.find("\n", colon, node.start_mark.index) >= 0:  # the value begins on a line of its own
        comment = cuts.text[colon : cuts.line_end(colon)]
    first, *more = _lines("k", new, indent)
    said = first.lstrip()[2:]
    cuts.replace(colon, cuts.line_end(end), cuts.newline.join([said + comment.rstrip(), *more]))


def _set_mapping(cuts: _Cuts, node: MappingNode, old: Any, new: Mapping[Any, Any]) -> None:
    """Change a mapping's own entries; names are texts or numbers."""
    now = {str(key): value for key, value in old.items()} if isinstance(old, Mapping) else {}
    wanted = {str(key): value for key, value in new.items()}
    changes: dict[str, Any] = {key: value for key, value in wanted.items() if not _is_same(now.get(key, ...), value)}
    removed = [key for key in now if key not in wanted]
    if len(removed) == len(now):
        raise UncutError
    last = _change_mapping(cuts, node, now, changes)
    for key, value in node.value:
        if str(key.value) in removed:
            _take_out(cuts, _Entry(key, value), None, (), 0)
    if last:
        at = cuts.line_end(_leaf_end(node))
        cuts.replace(at, at, cuts.newline + cuts.newline.join(last))


def _set_list(cuts: _Cuts, node: SequenceNode, old: Any, new: list[Any]) -> bool:
    """Change a list in its own style, entries that stay as they were written; False where it has none yet."""
    if not node.value or not isinstance(old, list):
        return False
    kept = _kept(old, new)
    quote = next((item.style for item in node.value if isinstance(item, ScalarNode) and item.style in QUOTES), None)
    if node.flow_style:
        spans = [(item.start_mark.index, _leaf_end(item)) for item in node.value]
        gap = cuts.text[spans[0][1] : spans[1][0]] if len(spans) > 1 else ", "
        between = cuts.text[node.start_mark.index : node.end_mark.index]
        if "#" in gap or ("#" in between and "\n" in between):
            return False
        parts = [
            cuts.text[slice(*spans[place])] if place is not None else _in_flow(value, quote)
            for place, value in zip(kept, new, strict=True)
        ]
        cuts.replace(spans[0][0], spans[-1][1], gap.join(parts))
        return True
    starts = [cuts.line_start(item.start_mark.index) for item in node.value]
    if len(set(starts)) < len(starts):
        return False
    dash = cuts.text.index("-", starts[0]) - starts[0]
    ends = [cuts.line_end(_leaf_end(item)) for item in node.value]
    begins = [starts[0], *(cuts.after_line(end) for end in ends[:-1])]  # a comment above an entry is that entry's
    parts = [
        cuts.text[begins[place] : ends[place]] if place is not None else _entry_lines(value, dash, quote, cuts.newline)
        for place, value in zip(kept, new, strict=True)
    ]
    cuts.replace(starts[0], ends[-1], cuts.newline.join(parts))
    return True


def _kept(old: Sequence[Any], new: Sequence[Any]) -> list[int | None]:
    """For each new entry the place of the same one in the old list, in order; None for one that is new."""
    found: list[int | None] = []
    at = 0
    for value in new:
        place = next((index for index in range(at, len(old)) if _is_same(old[index], value)), None)
        found.append(place)
        at = at if place is None else place + 1
    return found


def _end(cuts: _Cuts, entry: _Entry) -> int:
    """Where an entry ends: its value's last letter, or the colon where it has none."""
    colon = cuts.text.index(":", entry.key.end_mark.index) + 1
    if entry.value.start_mark.index < entry.key.end_mark.index:  # an alias: it ends with its line
        return cuts.line_end(colon)
    end = max(colon, _leaf_end(entry.value))
    return colon + len(cuts.text[colon:end].rstrip())


def _leaf_end(node: Node) -> int:
    """Where a node's own text ends: marks of block collections lie behind the comments that follow."""
    if not isinstance(node, MappingNode | SequenceNode) or node.flow_style or not node.value:
        return int(node.end_mark.index)
    last: Any = node.value[-1]
    return _leaf_end(last[1] if isinstance(last, tuple) else last)


def _lines(key: str, value: Any, indent: int) -> list[str]:
    return [" " * indent + line for line in plain_yaml({key: value}).rstrip("\n").split("\n")]


def _entry_lines(value: Any, dash: int, quote: str | None, newline: str) -> str:
    lines = plain_yaml([value]).rstrip("\n").split("\n")
    if quote and isinstance(value, str):
        lines = [f"- {_scalar(value, quote)}"]
    return newline.join(" " * dash + line for line in lines)


def _in_flow(value: Any, quote: str | None) -> str:
    written = json.dumps(value, ensure_ascii=False) if isinstance(value, list | Mapping) else _scalar(value, quote)
    needs_quotes = isinstance(value, str) and written[:1] not in QUOTES and any(char in value for char in ",[]{}")
    return json.dumps(value, ensure_ascii=False) if needs_quotes else written


def _scalar(value: Any, style: str | None) -> str:
    """One value on one line, a text in the quotes that were there."""
    if value is None:
        return "null"
    if isinstance(value, str) and style == '"':
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, str) and style == "'" and "\n" not in value:
        return "'" + value.replace("'", "''") + "'"
    written = plain_yaml({"k": value})[2:].strip()
    if "\n" in written:
        raise UncutError
    return written


def _is_same(one: Any, other: Any) -> bool:
    return repr(one) == repr(other)
