"""Docs: the pages of the folder docs/, in the reader's language."""

from __future__ import annotations

from pages.parts.shell.guard import guard

guard()

import streamlit as st

from lora_backend.i18n import N_
from lora_backend.views.docs_view import Block, DocsError, DocsPage, Heading, Picture, Text, list_docs, read_docs
from pages.parts.shell import addresses
from pages.parts.shell.docs import DOCS, FOLDER, docs_address
from pages.parts.shell.header import page_header
from pages.parts.shell.language import explain, language, t
from pages.parts.shell.markdown import Markdown

FEW_SECTIONS = 3
"""So many need no list of them at the head."""


def show_list() -> None:
    for group, pages in list_docs(FOLDER, language()):
        st.subheader(t(group), anchor=False)
        with st.container(gap=None):
            for name, title in pages:
                st.page_link(DOCS, label=ours(title), icon=":material/article:", query_params=asked_for(name))


def asked_for(name: str) -> dict[str, str]:
    """The query of a docs page; a language in this page's address stays."""
    chosen = st.query_params.get(addresses.LANGUAGE)
    return {addresses.PAGE: name} | ({addresses.LANGUAGE: chosen} if chosen else {})


def ours(text: str) -> Markdown:
    """Text of docs/, which is Markdown of our own."""
    return Markdown(text)


def show_page(page: DocsPage) -> None:
    if not page.is_translated:
        st.info(t(N_("This page is in English only.")), icon=":material/translate:")
    sections = [heading for heading in page.headings() if heading.level == 2]
    if len(sections) > FEW_SECTIONS:
        with st.expander(t(N_("On this page")), icon=":material/toc:"):
            st.markdown(ours("\n".join(f"- [{heading.text}](#{heading.anchor})" for heading in sections)))
    for block in page.blocks:
        show_block(block)


def show_block(block: Block) -> None:
    match block:
        case Heading(level=2):
            st.header(ours(block.text), anchor=block.anchor)
        case Heading():
            st.subheader(ours(block.text), anchor=block.anchor)
        case Text():
            st.markdown(ours(block.markdown))
        case Picture():
            st.image(str(block.path), alt=block.alt, width="stretch")


asked = st.query_params.get(addresses.PAGE)
try:
    page = read_docs(FOLDER, asked, language(), docs_address) if asked else None
except DocsError as error:
    page_header(t(N_("Docs")))
    st.error(explain(error), icon=":material/error:")
    show_list()
else:
    if page is None:
        page_header(
            t(N_("Docs")), t(N_("How to do it, what is computed and how, and what each key and finding means."))
        )
        show_list()
    else:
        page_header(ours(page.title))
        st.page_link(DOCS, label=t(N_("All docs pages")), icon=":material/arrow_back:")
        show_page(page)
