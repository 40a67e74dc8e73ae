"""Turns of a conversation as rows have them, in OpenAI's or ShareGPT's words, into a chat."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lora_backend.data.examples import Chat
from lora_backend.data.raw_rows import BadRowError
from lora_backend.i18n import N_

ROLES = {
    "system": "system", "user": "user", "human": "user", "assistant": "assistant", "gpt": "assistant",
    "function_call": "assistant", "tool": "tool", "observation": "tool", "function_response": "tool",
}  # fmt: skip
"""A row's word for who speaks → the template's. `function_call` is an answer whose text is the call, as JSON."""
PASSED_ON = ("name", "tool_call_id", "reasoning_content", "reasoning", "thinking")
"""Keys of a turn that templates ask for beside role and content."""
MARKS = ("weight", "train")
YES_AND_NO = {1: True, 0: False, "1": True, "0": False, "true": True, "false": False, "True": True, "False": False}
IMAGES = ("image", "image_url", "input_image", "audio", "input_audio", "video")


@dataclass(frozen=True, slots=True)
class TurnKeys:
    """What the turns of a set call their parts."""

    role: str = "role"
    content: str = "content"


@dataclass(slots=True)
class Said:
    """What is to be said of a good row beside what becomes of it."""

    unused: set[str] = field(default_factory=set)
    """Keys that nothing is made of; of a turn as `messages[].key`."""
    has_empty_answer: bool = False


class RowLeftOutError(Exception):
    """A row says of itself that nothing of it is to be learned."""


def listed(value: Any, key: str) -> list[Any]:
    """A list, or the JSON text of one, as tables have it. Raises `BadRowError`."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise BadRowError(N_("`{key}` is text that is not a JSON list"), key=key) from None
    if not isinstance(value, list):
        raise BadRowError(N_("`{key}` must be a list"), key=key)
    return value


def mark_of(row: Mapping[str, Any]) -> bool | None:
    """Whether a row or turn asks to be trained on, by `weight` or `train`; None where it says nothing."""
    marks = [_marked(row[key], key) for key in MARKS if row.get(key) is not None]
    if len(set(marks)) > 1:
        raise BadRowError(N_("`weight` and `train` say opposite things; keep one of them"))
    return marks[0] if marks else None


def _marked(value: Any, key: str) -> bool:
    try:
        return YES_AND_NO[value]
    except (KeyError, TypeError):
        raise BadRowError(
            N_("`{key}` is {value}, but only 0 and 1 (false and true) are supported; round it, or remove the key"),
            key=key,
            value=json.dumps(value)[:60],
        ) from None


def chat_of(
    turns: Sequence[Any],
    said: Said,
    *,
    key: str = "messages",
    keys: TurnKeys = TurnKeys(),
    tools: Any = None,
    system: Any = None,
    learns: bool = True,
) -> Chat:
    """The chat that a row's turns are. Raises `BadRowError`.

    `system`: beside the turns, becomes the first of them. `learns` False: no answer in them is learned.
    """
    if not turns:
        raise BadRowError(N_("`{key}` is empty"), key=key)
    messages: list[dict[str, Any]] = []
    untrained: set[int] = set()
    for number, turn in enumerate(turns, start=1):
        message, is_trained = _message(turn, number, said, key, keys)
        if message["role"] == "assistant" and not (is_trained and learns):
            untrained.add(len(messages))
        messages.append(message)
    _refuse_order(messages)
    if system not in (None, ""):
        if any(message["role"] == "system" for message in messages):
            raise BadRowError(N_("`system` and `{key}` both have a system turn; keep one of them"), key=key)
        messages.insert(0, {"role": "system", "content": text_of(system, "system")})
        untrained = {place + 1 for place in untrained}
    return Chat(tuple(messages), tools_of(tools), frozenset(untrained))


def refuse_without_answer(chat: Chat, said: Said) -> Chat:
    """The same chat. Raises `BadRowError` where no answer is in it, `RowLeftOutError` where it says to learn none."""
    answers = [place for place, message in enumerate(chat.messages) if message["role"] == "assistant"]
    if not answers:
        raise BadRowError(N_("there is no answer of the assistant to learn"), kind="all_prompt")
    empty = {place for place in answers if not _has_content(chat.messages[place])}
    if len(empty) == len(answers):
        raise BadRowError(N_("there is no answer of the assistant to learn, only an empty one"), kind="empty_answer")
    if chat.untrained.issuperset(answers):
        raise RowLeftOutError
    said.has_empty_answer = bool(empty)
    return chat


def _has_content(message: Mapping[str, Any]) -> bool:
    return bool(message["content"].strip() or message.get("tool_calls"))


def tools_of(value: Any) -> tuple[Mapping[str, Any], ...] | None:
    """Functions that the model may call, from a list or its JSON text; None for none."""
    if value is None or value == "":
        return None
    tools = listed(value, "tools")
    if not all(isinstance(tool, dict) for tool in tools):
        raise BadRowError(N_("`tools` must be a list of JSON objects, one for each function"))
    return tuple(tools) or None


def text_of(value: Any, key: str) -> str:
    """A text, or parts that are all text, joined. Raises `BadRowError`."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and value:
        return "".join(_part(part, key) for part in value)
    if value is None:
        raise BadRowError(N_("`{key}` is missing or null"), key=key)
    raise BadRowError(N_("`{key}` must be a text"), key=key)


def _part(part: Any, key: str) -> str:
    if isinstance(part, dict):
        kind = part.get("type", "text")
        if kind in IMAGES or (kind != "text" and kind != "input_text"):
            raise BadRowError(N_("`{key}` contains {what}, but only text is trained on"), key=key, what=str(kind)[:60])
        part = part.get("text")
    if not isinstance(part, str):
        raise BadRowError(N_("`{key}` must be a text"), key=key)
    return part


def _message(turn: Any, number: int, said: Said, key: str, keys: TurnKeys) -> tuple[dict[str, Any], bool]:
    """A turn as templates take it, and whether it is learned where it is an answer."""
    if not isinstance(turn, dict):
        raise BadRowError(N_("`{key}` must be a list of objects with role and content"), key=key)
    word = turn.get(keys.role)
    role = ROLES.get(word) if isinstance(word, str) else None
    if role is None:
        raise _unknown_role(word, number, keys)
    try:
        content, calls = _content(turn, keys, word)
        mark = mark_of(turn)
    except BadRowError as error:
        raise BadRowError(N_("turn {turn}: {reason}"), turn=number, reason=error.message) from None
    if mark and role != "assistant":
        raise BadRowError(
            N_("turn {turn} is marked to be learned, but only answers of the assistant are; remove the mark"),
            turn=number,
        )
    passed = {name: turn[name] for name in PASSED_ON if turn.get(name) is not None}
    said.unused.update(f"{key}[].{name}" for name in _unknown(turn, keys))
    return {"role": role, "content": content, **passed, **calls}, mark is not False


def _unknown(turn: Mapping[str, Any], keys: TurnKeys) -> Iterator[str]:
    known = {keys.role, keys.content, "tool_calls", *PASSED_ON, *MARKS}
    return (str(name) for name, value in turn.items() if name not in known and value is not None)


def _unknown_role(word: Any, number: int, keys: TurnKeys) -> BadRowError:
    if word is None:
        return BadRowError(N_("turn {turn} has no `{key}` to say who speaks"), turn=number, key=keys.role)
    return BadRowError(
        N_("turn {turn} has the role {role}; known are {known}"),
        turn=number,
        role=str(word)[:60],
        known=", ".join(ROLES),
    )


def _content(turn: Mapping[str, Any], keys: TurnKeys, word: Any) -> tuple[str, dict[str, Any]]:
    """The text of a turn, and the calls of functions in it."""
    value, calls = turn.get(keys.content), turn.get("tool_calls")
    if word == "function_call":
        return "", {"tool_calls": [_call(call) for call in _calls(text_of(value, keys.content))]}
    if calls in (None, "", []):
        return text_of(value, keys.content), {}
    called = {"tool_calls": [_with_arguments(call) for call in listed(calls, "tool_calls")]}
    return "" if value is None else text_of(value, keys.content), called


def _with_arguments(call: Any) -> dict[str, Any]:
    """A call as templates take it: OpenAI writes its arguments as JSON text, which a template would quote once more."""
    if not isinstance(call, dict):
        raise BadRowError(N_("`tool_calls` must be a list of JSON objects"))
    function = call.get("function")
    if not isinstance(function, dict) or not isinstance(function.get("arguments"), str):
        return call
    try:
        arguments = json.loads(function["arguments"] or "{}")
    except (ValueError, RecursionError):
        raise BadRowError(N_("the `arguments` of a call must be JSON")) from None
    return {**call, "function": {**function, "arguments": arguments}}


def _calls(text: str) -> list[Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        raise BadRowError(N_("the text of a `function_call` must be JSON with `name` and `arguments`")) from None
    return found if isinstance(found, list) else [found]


def _call(call: Any) -> dict[str, Any]:
    if not isinstance(call, dict) or not isinstance(call.get("name"), str):
        raise BadRowError(N_("the text of a `function_call` must be JSON with `name` and `arguments`"))
    return _with_arguments(
        {"type": "function", "function": {"name": call["name"], "arguments": call.get("arguments", {})}}
    )


def _refuse_order(messages: Sequence[Mapping[str, Any]]) -> None:
    """Two answers in a row are one that was torn apart, or a question that is missing."""
    for number in range(1, len(messages)):
        if messages[number - 1]["role"] == messages[number]["role"] == "assistant":
            raise BadRowError(
                N_(
                    "turns {first} and {second} are both of the assistant; join them, or put what was asked between them"
                ),
                first=number,
                second=number + 1,
            )
