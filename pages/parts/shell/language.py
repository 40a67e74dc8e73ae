"""The reader's language: chosen in the address, else remembered in a cookie, else the browser's."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import streamlit as st

from lora_backend.errors import FlightdeckError
from lora_backend.i18n import LANGUAGES, N_, Message, language_of
from lora_backend.os_errors import in_words
from pages.parts.shell import addresses
from pages.parts.shell.markdown import Markdown, escape, joined, sentence
from pages.parts.shell.popovers import POPOVER_SCRIPT
from pages.parts.shell.services import installation

COOKIE = "flightdeck_lang"


def language() -> str:
    """The language of this session. Safe in a fragment, which runs without the page around it."""
    chosen = st.session_state.get(addresses.LANGUAGE) or st.query_params.get(addresses.LANGUAGE)
    return str(chosen) if chosen in LANGUAGES else _own_language()


def _own_language() -> str:
    """What this browser's reader gets from an address that names no language."""
    return language_of(st.context.cookies.get(COOKIE)) or language_of(st.context.locale) or "en"


def t(template: str, **values: Any) -> Markdown:
    """`template` in the reader's language for a place that Streamlit reads as Markdown; its values stay text."""
    return sentence(template, values, language())


def say(message: Message | None) -> Markdown:
    """A message of the backend, likewise; nothing for None."""
    return sentence(message.template, message.values, language()) if message else Markdown()


def sentences(parts: Iterable[object]) -> Markdown:
    """One after the other; Chinese has no space between them."""
    return joined("" if language() == "zh" else " ", parts)


def explain(error: Exception) -> Markdown:
    """Why something failed, in one sentence; what the system refuses comes with its folder and a remedy."""
    if isinstance(error, OSError):
        error = in_words(error, installation().workspace)
    return say(error.message) if isinstance(error, FlightdeckError) else escape(error)


def t_plain(template: str, **values: Any) -> str:
    """The same for a place that is no Markdown: cells of a data frame, options of a select box, `st.code`, charts, files."""
    return Message(template, values).text(language())


def say_plain(message: Message | None) -> str:
    """A message of the backend, likewise; nothing for None."""
    return message.text(language()) if message else ""


def show_language_picker() -> None:
    """English, Chinese and what else has a catalogue; kept in the address, and in a cookie for addresses without it."""
    with st.container(gap=None, width="content"):
        chosen = st.segmented_control(
            t(N_("Language")),
            list(LANGUAGES),  # shown as they are: a label would stand in the address in the place of the code
            default=_own_language(),
            required=True,
            key=addresses.LANGUAGE,
            label_visibility="collapsed",
            bind="query-params",
        )
        code = chosen if chosen in LANGUAGES else language()
        # The content security policy knows each script by its hash.
        st.html(f"<script>{html_lang_script(code)}{POPOVER_SCRIPT}</script>", unsafe_allow_javascript=True)
        if chosen and chosen != st.context.cookies.get(COOKIE):
            st.html(f"<script>{cookie_script(code)}</script>", unsafe_allow_javascript=True)


def cookie_script(code: str) -> str:
    """What the browser runs to remember the language."""
    return f'document.cookie = "{COOKIE}={code}; path=/; max-age=31536000; SameSite=Lax"'


def html_lang_script(code: str) -> str:
    """What it runs so that fonts, hyphens and screen readers follow the language: Streamlit's page says English."""
    return f'document.documentElement.lang = "{LANGUAGES[code].replace("_", "-")}"'
