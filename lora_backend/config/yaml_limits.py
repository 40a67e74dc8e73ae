"""YAML's reader with limits: how deep, how large, what a key may be. Whatever breaks one is told with its line."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from ruamel.yaml.composer import Composer
from ruamel.yaml.error import YAMLError
from ruamel.yaml.events import AliasEvent, CollectionStartEvent
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from lora_backend.config.findings import shorten
from lora_backend.i18n import N_, Message

MAX_KEYS, MAX_VALUES = 2_000, 10_000
"""In a document, aliases written out: a second's work for a reader. A rank for each of 80 blocks' seven layers is 560 keys."""
MAX_TAG_LENGTH = 2_000
MAX_DEPTH = 100
"""Lists and mappings that are open at once."""
TOO_MANY_KEYS = N_("The file has more than {limit} keys, first exceeded on line {line}.")
TOO_MANY_VALUES = N_(
    "The file has more than {limit} values, counting what aliases (& and *) repeat, first exceeded on line {line}."
)
TOO_DEEP = N_("Line {line} is nested too deeply for a config: more than {limit} levels.")
FEWER = N_("Remove what is not a setting, or name layers by a pattern instead of one by one.")
_READ_AS = {
    "null": N_("nothing"), "bool": N_("true or false"), "int": N_("a number"), "float": N_("a number"), "timestamp": N_("a date"),
}  # fmt: skip
"""What a word without quotes can be instead of a text, by YAML's name for it."""


class UnreadableError(ValueError):
    """A text that is no config; `line` counts from 1, None where no place can be named."""

    def __init__(self, message: Message, line: int | None, remedy: Message | None = None) -> None:
        super().__init__(message.template)
        self.message, self.line, self.remedy = message, line, remedy


class RefusedError(UnreadableError):
    """A file that is not read any further."""

    def __init__(self, line: int, template: str, remedy: str | None = None, /, **values: Any) -> None:
        super().__init__(Message(template, {"line": line, **values}), line, None if remedy is None else Message(remedy))


class LimitedComposer(Composer):  # type: ignore[misc, no-any-unimported, unused-ignore]
    """Counts while it reads, for a node does not say any more which alias led to it.

    Aliases share their node, so this is as quick as the text is short, however large the document would grow.
    """

    def __init__(self, loader: Any = None) -> None:
        super().__init__(loader)
        self.size: float = 0
        self.num_open = self.num_keys = 0
        self.sizes: dict[str, float] = {}
        """Values below an anchor; infinite until it is closed, for whoever meets it then is inside it."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.parser.peek_event()
        line = event.start_mark.line + 1
        is_alias, opens, before = isinstance(event, AliasEvent), isinstance(event, CollectionStartEvent), self.size
        self.size += self.sizes.get(event.anchor, 0) if is_alias else 1
        if math.isinf(self.size):
            raise RefusedError(line, N_("The alias `*{name}` on line {line} refers to itself."), name=event.anchor)
        if self.size > MAX_VALUES:
            raise RefusedError(line, TOO_MANY_VALUES, FEWER, limit=MAX_VALUES)
        self.num_keys += isinstance(parent, MappingNode) and index is None
        if self.num_keys > MAX_KEYS:
            raise RefusedError(line, TOO_MANY_KEYS, FEWER, limit=MAX_KEYS)
        if opens and self.num_open >= MAX_DEPTH:
            raise RefusedError(line, TOO_DEEP, limit=MAX_DEPTH)
        if event.anchor and not is_alias:
            self.sizes[event.anchor] = math.inf
        self.num_open += opens
        node = super().compose_node(parent, index)
        self.num_open -= opens
        if event.anchor and not is_alias:
            self.sizes[event.anchor] = self.size - before
        return node


def refuse_long_tags(text: str) -> None:
    """Raise `RefusedError` for a tag (`!int`) that is too long: its reader goes over all of it once for each letter."""
    longest = next((word for word in text.split() if "!" in word and len(word) > MAX_TAG_LENGTH), None)
    if longest is not None:
        line = text.count("\n", 0, text.index(longest)) + 1
        raise RefusedError(
            line,
            N_("Line {line} has a tag or a word with `!` of more than {limit} characters. Shorten it."),
            limit=MAX_TAG_LENGTH,
        )


def nodes_of(root: Node) -> Iterator[Node]:
    """Every node of a document as it stands in the text; one that aliases share comes once."""
    seen: set[int] = set()
    waiting = [root]
    while waiting:
        node = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        yield node
        if isinstance(node, MappingNode):
            waiting += [part for pair in reversed(node.value) for part in reversed(pair)]
        elif isinstance(node, SequenceNode):
            waiting += reversed(node.value)


def refuse_odd_keys(root: MappingNode) -> None:
    """A key is one word; at the top it is a text, while below it may be a number (`max_memory: {0: 10GiB}`)."""
    remedy = N_("Write a plain word before the colon, or remove the line.")
    for mapping in nodes_of(root):
        for key, _ in mapping.value if isinstance(mapping, MappingNode) else ():
            line = key.start_mark.line + 1
            if not isinstance(key, ScalarNode):
                raise RefusedError(
                    line, N_("Line {line} has a list or a mapping as its key; a key must be a plain word."), remedy
                )
            read_as = _READ_AS.get(_kind(key))
            if mapping is root and read_as and not key.value:
                raise RefusedError(
                    line, N_("Line {line} has no key before its colon; a key must be a plain word."), remedy
                )
            if mapping is root and read_as:
                raise RefusedError(
                    line,
                    N_("The key `{key}` on line {line} is read as {meaning}; a key must be a plain word."),
                    remedy,
                    key=str(key.value)[:80],
                    meaning=Message(read_as),
                )


def refuse_bad_value(root: Node, constructor: Any) -> None:
    """Raise for the first value that is not what its looks or its tag say: a 99th month, `!!int x`.

    Only for a document that could not be made into values: it makes every one again.
    """
    for node in nodes_of(root):
        if isinstance(node, SequenceNode) and _kind(node) == "omap":
            _refuse_repeated_entry(node)
        if not isinstance(node, ScalarNode):
            continue
        try:
            constructor.construct_object(node)
        except (YAMLError, ValueError, TypeError, LookupError, OverflowError, AttributeError) as error:
            raise RefusedError(
                node.start_mark.line + 1,
                N_("Line {line} cannot be read: {value} is not a valid {kind}."),
                value=shorten(node.value),
                kind=_kind(node),
            ) from error


def _refuse_repeated_entry(omap: Node) -> None:
    """`!!omap` is a list of mappings with one key each, and none of these twice."""
    found: dict[str, int] = {}
    for entry in omap.value:
        for key, _ in entry.value if isinstance(entry, MappingNode) else ():
            name, line = str(key.value), key.start_mark.line + 1
            if name in found:
                raise RefusedError(
                    line,
                    N_("`{key}` appears twice, on line {first} and again on line {second}."),
                    key=name[:80],
                    first=found[name],
                    second=line,
                )
            found[name] = line


def _kind(node: Node) -> str:
    """`int` of `tag:yaml.org,2002:int`."""
    return str(node.tag or "").rpartition(":")[2]
