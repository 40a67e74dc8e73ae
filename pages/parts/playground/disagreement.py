"""An answer's tokens, coloured and underlined by how far the adapter and its base model disagree on them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import streamlit as st

from lora_backend.chats.documents import TokenKl
from lora_backend.escaping import visible
from lora_backend.formats import number
from lora_backend.i18n import N_
from lora_backend.views.chat_view import KL_BOUNDS, kl_level, most_different
from pages.parts.shell.html import Html, tag
from pages.parts.shell.language import t, t_plain
from pages.parts.shell.markdown import code, escape, joined

BOX = "white-space: pre-wrap; overflow-wrap: anywhere; line-height: 1.75; font-size: .95rem"
LEGEND = "font-size: .8rem; line-height: 1.9"
UNBROKEN = "; white-space: nowrap"
PLAIN = "color: inherit; background: none"
LEVELS = (
    PLAIN,
    "color: inherit; background: rgba(221, 107, 32, .10); border-bottom: 1px dotted rgb(221, 107, 32)",
    "color: inherit; background: rgba(221, 107, 32, .22); border-bottom: 2px dotted rgb(221, 107, 32)",
    "color: inherit; background: rgba(221, 107, 32, .36); border-bottom: 2px solid rgb(221, 107, 32)",
    "color: inherit; background: rgba(221, 107, 32, .52); border-bottom: 4px double rgb(221, 107, 32)",
)
"""A fill and an underline for each level of `kl_level`: the line tells them apart without colour."""
WORDS = (N_("the same"), N_("slightly"), N_("clearly"), N_("strongly"), N_("entirely"))


def show_tokens(tokens: Sequence[TokenKl]) -> None:
    """The answer, its legend, and in words where the two disagree most."""
    st.html(_tokens_html(tokens))
    st.html(_legend())
    most = most_different(tokens)
    if not most:
        st.caption(t(N_("Adapter and base model agree on every token of this answer.")))
        return
    said = [joined(" ", [code(visible(token.text)), escape(number(token.kl, 2))]) for token in most]
    st.caption(t(N_("Most different, in nats: {tokens}"), tokens=joined(", ", said)))


def _tokens_html(tokens: Iterable[TokenKl]) -> Html:
    return tag("div", map(_token, tokens), style=BOX)


def _token(token: TokenKl) -> Html:
    level = kl_level(token.kl)
    text = token.text.replace("\r\n", "\n")
    if level:
        text = text.replace("\n", "↵\n")  # a line end would not be seen
    name, style = _mark(level)
    return tag(name, [text], style=style, title=_title(token.kl))


def _mark(level: int) -> tuple[str, str]:
    """Element and style of a level."""
    return ("mark" if level else "span"), LEVELS[level]


def _title(kl: float) -> str:
    return t_plain(N_("KL {value} nats"), value=number(kl, 2))


def _legend() -> Html:
    return tag("div", _samples(), style=LEGEND)


def _samples() -> Iterator[str]:
    yield t_plain(N_("How far adapter and base disagree (KL, nats):")) + "  "
    bounds = (f"< {KL_BOUNDS[0]:g}", *(f"≥ {low:g}" for low in KL_BOUNDS))
    for level, (word, bound) in enumerate(zip(WORDS, bounds, strict=True)):
        name, style = _mark(level)
        yield tag(name, [f" {t_plain(word)} {bound} "], style=style + UNBROKEN)
        yield "  "
