"""The way to the docs pages, which the dashboard shows itself."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import streamlit as st

from lora_backend.i18n import N_
from pages.parts.shell import addresses
from pages.parts.shell.language import t
from pages.parts.shell.markdown import Markdown

DOCS = "pages/docs.py"
FOLDER = Path(__file__).parents[3] / "docs"


def docs_address(name: str = "", anchor: str | None = None, **query: str) -> str:
    """The address of a page of `docs/`, and of a heading on it; without a name, of the list of them."""
    end = f"#{quote(anchor)}" if anchor else ""
    return addresses.page_address(DOCS, **({addresses.PAGE: name} if name else {}), **query) + end


def docs_link(name: str, anchor: str | None = None) -> None:
    """A small link to a docs page, which opens beside what the reader is at."""
    st.link_button(t(N_("Docs")), docs_address(name, anchor), icon=":material/menu_book:", type="tertiary")


def rule_link(code: str) -> Markdown:
    """A link, for a sentence, from a finding to what docs/rules.md says of its rule."""
    return Markdown(f"[{t(N_('Why?'))}]({docs_address('rules', **{addresses.ONLY: code})})")
