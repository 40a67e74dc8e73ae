"""What a row of any form becomes before it is written with a model's template: a chat, a pair of texts, or one text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Chat:
    """Turns of a conversation, as a chat template takes them."""

    messages: tuple[Mapping[str, Any], ...]
    """Each with `role` and `content`; some with `tool_calls`, `tool_call_id`, `name`, `reasoning_content` and whatever
    else a template may ask for."""
    tools: tuple[Mapping[str, Any], ...] | None = None
    """JSON Schemas of functions that the model may call."""
    untrained: frozenset[int] = frozenset()
    """Places in `messages`, from 0, of answers that the row says not to learn (`weight: 0`, `train: false`)."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Two texts without a template between them: only the second is learned."""

    prompt: str
    completion: str


@dataclass(frozen=True, slots=True)
class Text:
    """A text that is learned whole."""

    text: str


Example = Chat | Pair | Text
