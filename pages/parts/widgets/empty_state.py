"""What a page says while it has nothing to show: a small drawing, one sentence, and the ways on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import streamlit as st

from lora_backend.i18n import N_
from pages.parts.shell.language import t
from pages.parts.shell.markdown import Markdown
from pages.parts.shell.navigation import CONFIG, HOME

DRAWINGS = Path(__file__).parents[1] / "shell/drawings"


def empty_state(drawing: str, sentence: Markdown, ways_on: Callable[[], None]) -> None:
    """`drawing`: a file of `shell/drawings`, readable on a light and a dark page; `ways_on` draws the links and buttons."""
    with st.container(border=True, horizontal=True, vertical_alignment="center", gap="medium"):
        st.image(str(DRAWINGS / f"{drawing}.svg"), width=144, alt="")
        with st.container(width=560):  # beside the drawing where there is room, else below it
            st.markdown(sentence)
            with st.container(horizontal=True):
                ways_on()


def demo_or_config() -> None:
    """The ways on where there is no run and no adapter yet."""
    st.page_link(HOME, label=t(N_("To the demo")), icon=":material/home:")
    st.page_link(CONFIG, label=t(N_("Open a config")), icon=":material/tune:")
