"""What the pages share: the folder, the languages, titles, rows of tables."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"
SUFFIXES = {"en": "", "zh": ".zh-CN"}
"""Language → what its pages have before `.md`."""

Words = dict[str, str]
"""A text of a page in each language. What the product says itself comes from its own catalogue."""


def words(english: str, chinese: str) -> Words:
    """A text of a page."""
    return {"en": english, "zh": chinese}


def title(text: Words, name: str, language: str) -> str:
    """The head of a page, with the way to the same one in the other language."""
    other, link = ("zh", "中文") if language == "en" else ("en", "English")
    return f"# {text[language]}\n\n[{link}]({name}{SUFFIXES[other]}.md)\n"


def row(cells: Iterable[str]) -> str:
    """A row of a table."""
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
