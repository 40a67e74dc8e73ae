"""Numbers and text for a page."""

from __future__ import annotations

from lora_backend import formats
from pages.parts.shell.language import say
from pages.parts.shell.markdown import Markdown

FIGURE_WIDTH = 172
"""Of a figure's box, in pixels; two stand side by side on a telephone."""


def duration(seconds: float | None) -> Markdown:
    """A time in the reader's language."""
    return say(formats.duration(seconds))
