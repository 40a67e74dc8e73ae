"""A run's figures in a row that fills the width: each with what it is held against, a small curve where there is one."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from lora_backend.views.result_view import Fact
from pages.parts.shell.language import say


def show_facts(facts: Sequence[Fact], key: str = "facts") -> None:
    """Nothing where there is none; on a narrow screen they stand below each other in pairs."""
    with st.container(horizontal=True, key=key):
        for fact in facts:
            st.metric(
                say(fact.head),
                say(fact.value),
                say(fact.note) or None,
                delta_color="off",
                delta_arrow="off",
                chart_data=list(fact.curve) if len(fact.curve) > 1 else None,
                border=True,
                height="stretch",
            )
