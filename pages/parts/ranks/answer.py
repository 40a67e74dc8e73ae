"""The answer that stands on top: whether an adapter is what it says."""

from __future__ import annotations

import streamlit as st

from lora_backend.views.verify_view import Answer
from pages.parts.ranks.view import ICONS
from pages.parts.shell.language import say, sentences
from pages.parts.shell.markdown import bold, joined
from pages.parts.widgets.tones import BOXES


def show_answer(found: Answer) -> None:
    """Word, sign and colour, and why."""
    show, icon = (BOXES[found.tone], ICONS[found.tone]) if found.tone else (st.info, "help")
    with st.container(key="verify_answer"):
        lines = (bold(say(found.headline)), sentences(map(say, found.said)))
        show(joined("  \n", lines), icon=f":material/{icon}:")
