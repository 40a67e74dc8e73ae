"""A chat's messages as a template takes them, and the texts in them that are looked for in what it writes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from typing import Any, Literal, NamedTuple

from lora_backend.tokens.template_trace import CLOSE, MOST, OPEN, mark

Arguments = Literal["object", "text"]
"""How a template wants the arguments of a tool call."""
REASONING = ("reasoning_content", "thinking", "reasoning")
"""Names under which thoughts stand beside an answer; transformers gives a template the first of them under all."""
_THOUGHT = re.compile(r"(<\|?/?\w*(?:think|reason|channel)\w*\|?>|\[/?THINK\])", re.IGNORECASE)
"""Around thoughts in an answer: templates take an answer apart at these."""


class Part(NamedTuple):
    """A text of a message without the white space around it."""

    of: int
    """The place of its message."""
    text: str
    tail: str
    """White space that follows it in the message."""


def as_template_takes(
    messages: Sequence[Mapping[str, Any]], arguments: Arguments = "object", *, in_parts: bool = False
) -> list[dict[str, Any]]:
    """Without keys that are None; thoughts under all their names; arguments of calls as `arguments` says.

    `in_parts`: contents become lists of one text, as templates of models that see pictures ask for them.
    """
    taken = []
    for given in messages:
        message = {key: value for key, value in given.items() if value is not None}
        thought = next((message[key] for key in REASONING if key in message), None)
        if thought is not None:
            message = {"thinking": thought, **message, "reasoning_content": thought}
        if isinstance(message.get("tool_calls"), (list, tuple)):
            message["tool_calls"] = [_call(call, arguments) for call in message["tool_calls"]]
        if in_parts and isinstance(message.get("content"), str):
            message["content"] = [{"type": "text", "text": message["content"]}]
        taken.append(message)
    return taken


def _call(call: Any, arguments: Arguments) -> Any:
    if not isinstance(call, Mapping):
        return call
    holder = call.get("function") if isinstance(call.get("function"), Mapping) else call
    given = holder.get("arguments") if isinstance(holder, Mapping) else None
    if arguments == "object" and isinstance(given, str):
        try:
            given = json.loads(given)
        except ValueError:
            return call
    elif arguments == "text" and isinstance(given, (Mapping, list)):
        given = json.dumps(given, ensure_ascii=False)
    else:
        return call
    changed = {**holder, "arguments": given}  # type: ignore[dict-item]
    return {**call, "function": changed} if holder is not call else changed


def has_calls_with_arguments(messages: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the two ways to give arguments differ."""
    return any(message.get("tool_calls") for message in messages)


def called_names(message: Mapping[str, Any]) -> list[str]:
    """Of the functions that a turn calls."""
    calls = message.get("tool_calls")
    names = []
    for call in calls if isinstance(calls, (list, tuple)) else ():
        holder = call.get("function", call) if isinstance(call, Mapping) else None
        if isinstance(holder, Mapping) and isinstance(holder.get("name"), str):
            names.append(holder["name"])
    return names


def shape_of(messages: Sequence[Mapping[str, Any]]) -> tuple[Any, ...]:
    """What a template's own words mostly hang on: chats of one shape are tried with the same words between their texts.

    A `/no_think` somewhere changes what a prompt ends with, and with it where an answer begins.
    """
    shape: list[Any] = []
    for message in messages:
        content = message.get("content")
        if isinstance(content, str):
            told: Any = tuple(_THOUGHT.findall(content)) if "<" in content or "[" in content else bool(content.strip())
        else:
            told = None if content is None else len(content)
        shape.append((message.get("role"), len(message), told, isinstance(content, str) and "think" in content))
    return tuple(shape)


def parts_of(messages: Sequence[Mapping[str, Any]]) -> list[Part]:
    """Every text of every message, in order: thoughts beside a content, then the content, taken apart at its thoughts."""
    return [part for place, message in enumerate(messages) for _, part in _texts(place, message)]


def _texts(place: int, message: Mapping[str, Any]) -> Iterator[tuple[str, Part]]:
    """Each text as it stands in the message, and what is looked for of it."""
    thought, content = message.get("reasoning_content"), message.get("content")
    if isinstance(thought, str) and (core := thought.strip()):
        yield thought, _part(place, thought, core)
    for text in [content] if isinstance(content, str) else _listed(content):
        for piece in pieces_of(text):
            if core := piece.strip():
                yield piece, _part(place, piece, core)


def _part(place: int, text: str, core: str) -> Part:
    return Part(place, core, "" if text is core else text[text.index(core) + len(core) :])


def _listed(content: object) -> list[str]:
    return [text for part in content if (text := _text_of(part))] if isinstance(content, (list, tuple)) else []


def _text_of(part: object) -> str | None:
    text = part.get("text") if isinstance(part, Mapping) else None
    return text if isinstance(text, str) else None


def pieces_of(text: str) -> list[str]:
    """A content, taken apart at the marks of thoughts; what is left out is nothing but these marks."""
    return _THOUGHT.split(text)[::2] if "<" in text or "[" in text else [text]


def with_marks(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]] | None:
    """The messages with a mark before and behind each of `parts_of`; None where there are too many."""
    numbers = count()
    marked = [_marked_message(message, numbers) for message in messages]
    return marked if max(next(numbers), len(messages)) < MOST else None


def _marked_message(message: Mapping[str, Any], numbers: Iterator[int]) -> dict[str, Any]:
    marked = dict(message)
    thought, content = message.get("reasoning_content"), message.get("content")
    if isinstance(thought, str):
        written = _marked(thought, numbers)
        marked.update({key: written for key in REASONING if message.get(key) == thought})
    if isinstance(content, str):
        marked["content"] = _marked_content(content, numbers)
    elif isinstance(content, (list, tuple)):
        marked["content"] = [
            part if (text := _text_of(part)) is None else {**part, "text": _marked_content(text, numbers)}
            for part in content
        ]
    return marked


def _marked_content(text: str, numbers: Iterator[int]) -> str:
    pieces = _THOUGHT.split(text) if "<" in text or "[" in text else [text]
    return "".join(piece if number % 2 else _marked(piece, numbers) for number, piece in enumerate(pieces))


def _marked(text: str, numbers: Iterator[int]) -> str:
    core = text.strip()
    if not core:
        return text
    number = next(numbers)
    if number >= MOST:
        return text
    begin = text.index(core)
    return f"{text[:begin]}{mark(OPEN, number)}{core}{mark(CLOSE, number)}{text[begin + len(core) :]}"
