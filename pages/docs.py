"""Docs: the pages of the folder docs/, in the reader's language."""

from __future__ import annotations

from pages.parts.shell.guard import guard

guard()

import streamlit as st

from lora_backend.i18n import N_
from lora_backend.views.docs_view import Block, DocsError, DocsPage, Heading, Picture, Text, list_docs, read_docs
from pages.parts.shell import addresses
from pages.parts.shell.docs import FOLDER, docs_address
from pages.parts.shell.header import page_header
from pages.parts.shell.html import link, tag
from pages.parts.shell.language import explain, language, t, t_plain
from pages.parts.shell.markdown import Markdown

FEW_SECTIONS = 3  # so many need no list of them at the head


def show_list() -> None:
    columns = st.columns(2)
    for number, (group, pages) in enumerate(list_docs(FOLDER, language())):
        with columns[number % 2]:
            st.header(t(group), anchor=False)
            links = [tag("li", [link(docs_address(name), title)]) for name, title in pages]
            st.html(tag("ul", links, style=LIST))


LIST = "margin: 0; padding: 0; list-style: none; line-height: 1.9"
READING_WIDTH = 860  # of a page's text, in pixels: longer lines are hard to follow


def ours(text: str) -> Markdown:
    """Text of docs/, which is Markdown of our own."""
    return Markdown(text)


def show_page(page: DocsPage) -> None:
    if not page.is_translated:
        st.info(t(N_("This page is in English only.")), icon=":material/translate:")
    if section := page.section(st.query_params.get(addresses.ONLY)):
        for block in section:
            show_block(block)
        return
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
            st.header(ours(block.text), anchor=block.anchor)
        case Text():
            st.markdown(ours(block.markdown))
        case Picture():
            st.image(str(block.path), alt=block.alt, width="stretch")


def back() -> None:
    """To the whole page from one section of it, and to the list of pages."""
    ways = [link(docs_address(), t_plain(N_("All docs pages")))]
    if page is not None and addresses.ONLY in st.query_params:
        ways.append(link(docs_address(page.name), page.title))
    st.html(tag("div", [part for way in ways for part in (" / ", way)][1:]))


asked = st.query_params.get(addresses.PAGE)
page = None
try:
    page = read_docs(FOLDER, asked, language(), docs_address) if asked else None
except DocsError as error:
    page_header(t(N_("Docs")))
    st.error(explain(error), icon=":material/error:")
    show_list()
else:
    if page is None:
        page_header(
            t(N_("Docs")),
            t(N_("How to use Flightdeck, what it computes and how, and what each key and finding means.")),
        )
        show_list()
    else:
        page_header(ours(page.title))
        back()
        with st.container(width=READING_WIDTH):
            show_page(page)
