"""Numbers and text for a page."""

from __future__ import annotations

from lora_backend import formats
from lora_backend.i18n import Message
from pages.parts.language import say

FIGURE_WIDTH = 172
"""Of a figure's box, in pixels; two stand side by side on a telephone."""


def gib(size_bytes: float | None) -> str:
    """Bytes in GiB (2**30)."""
    return "–" if size_bytes is None else f"{size_bytes / 2**30:.1f} GiB"


def duration(seconds: float | None) -> str:
    """A time in the reader's language."""
    return say(formats.duration(seconds))


def plain(text: str) -> str:
    """Text of a user as it is, where Streamlit would read it as Markdown."""
    return "".join(f"\\{c}" if c in r"\`*_{}[]<>()#+-.!|~$:" else c for c in text)


def as_text(message: Message) -> str:
    """A sentence whose values came from outside: names and paths are shown as they are."""
    values = {key: plain(value) if isinstance(value, str) else value for key, value in message.values.items()}
    return say(Message(message.template, values))
