"""HTML for `st.html`: made by `tag` alone, in which every text that is not `Html` is escaped."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape as html_escape

from lora_backend.escaping import visible, visible_lines


class Html(str):
    """HTML of ours: what comes from outside is text in it."""

    __slots__ = ()


def tag(name: str, parts: Iterable[str], *, style: str = "", title: str = "") -> Html:
    """An element around `parts`. `name` and `style` are constants of ours; `title` is text."""
    named = f' style="{html_escape(style)}"' if style else ""
    named += f' title="{html_escape(visible(title))}"' if title else ""
    inside = "".join(part if isinstance(part, Html) else html_text(part) for part in parts)
    return Html(f"<{name}{named}>{inside}</{name}>")


def html_text(text: str) -> Html:
    """`text` as the text that it is: line ends and tabs stay, other control characters are shown."""
    return Html(html_escape(visible_lines(text)))


def link(address: str, text: str) -> Html:
    """A link that opens in the place of this page; one in Markdown opens beside it."""
    return Html(
        f'<a href="{html_escape(address)}" target="_self" style="display: inline-block; min-height: 24px">{html_text(text)}</a>'
    )
