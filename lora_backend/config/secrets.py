"""Secrets that got into a config: found by their shape, and never repeated in a sentence."""

from __future__ import annotations

import re
from typing import Any

from lora_backend.i18n import Message

HIDDEN = "…"
SHAPES = re.compile(
    r"(?<![A-Za-z0-9])(?:hf_[A-Za-z0-9]{16,}|sk-[A-Za-z0-9_-]{16,}|gh[pousr]_[A-Za-z0-9]{16,}|github_pat_\w{16,}"
    r"|glpat-[\w-]{16,}|xox[abprs]-[\w-]{10,}|AKIA[0-9A-Z]{16}|AIza[\w-]{30,}|eyJ(?:(?![_-]eyJ)[\w-]){10,}\.[\w-]{10,}\.[\w-]{5,})"
)
"""A web token's first part ends where another could begin: thousands of beginnings would each be read to the end.

Tokens of the hub, OpenAI and Anthropic, GitHub, GitLab, Slack, AWS, Google, and JSON web tokens."""
IN_ADDRESS = re.compile(r"(?P<user>:/+[^\s/?#:@]*):[^\s/?#]+(?=@)")
"""User and password in front of an address's host; one slash is left of two where it was taken for a path."""
NAMES = re.compile(r"(^|[_-])(token|api_?key|secret|password|passwd)$", re.IGNORECASE)
"""Keys whose text is a secret whatever its shape."""


def redact(text: str) -> str:
    """`text` with what looks like a secret left out; its first letters or its user stay, so that it can be found."""
    text = IN_ADDRESS.sub(lambda found: f"{found['user']}:{HIDDEN}", text)
    return SHAPES.sub(lambda found: found[0][:3] + HIDDEN, text)


def holds_secret(key: str, value: Any) -> bool:
    """Whether a value, or anything inside of it, is a secret."""
    waiting: list[tuple[str, Any]] = [(key, value)]
    seen: set[int] = set()
    while waiting:  # no recursion, for a Python value may be nested without end, or contain itself
        name, item = waiting.pop()
        if isinstance(item, str):
            if SHAPES.search(item) or IN_ADDRESS.search(item) or (NAMES.search(name) and len(item) >= 8):
                return True
        elif isinstance(item, dict | list) and id(item) not in seen:
            seen.add(id(item))
            if isinstance(item, dict):
                waiting += [pair for inner, part in item.items() for pair in ((str(inner), part), ("", str(inner)))]
            else:
                waiting += [(name, part) for part in item]
    return False


def redacted(message: Message) -> Message:
    """A sentence whose values hold no secret."""
    return Message(message.template, {name: _clean(value) for name, value in message.values.items()})


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return redact(value)
    return redacted(value) if isinstance(value, Message) else value
