"""What the page says while no data set is chosen: the forms that are read, and the demo's data in one click."""

from __future__ import annotations

import streamlit as st

from lora_backend.escaping import visible_lines
from lora_backend.i18n import N_
from pages.parts.data.choose import demo_name
from pages.parts.shell import addresses
from pages.parts.shell.language import t
from pages.parts.shell.navigation import CONFIG, DATA
from pages.parts.widgets.empty_state import empty_state

EXAMPLES: tuple[tuple[str, str], ...] = (
    (N_("Chats"), '{"messages": [{"role": "user", "content": "How tall is it?"}, {"role": "assistant", "content": "Nine metres."}]}'),
    ("ShareGPT", '{"conversations": [{"from": "human", "value": "How tall is it?"}, {"from": "gpt", "value": "Nine metres."}]}'),
    ("Alpaca", '{"instruction": "Translate into French.", "input": "Good morning", "output": "Bonjour"}'),
    (N_("Prompt and completion"), '{"prompt": "2 + 2 =", "completion": " 4"}'),
    (N_("Question and answer"), '{"question": "How tall is it?", "answer": "Nine metres."}'),
    (N_("Plain text"), '{"text": "Once upon a time …"}'),
)  # fmt: skip
"""A form's name and a row of it."""


def show_empty() -> None:
    """Choose, upload, or look at the demo's data."""
    empty_state(
        "rows",
        t(
            N_(
                "Choose or upload a data set to see what a model learns from it: every row as the model reads it, which tokens are trained, what is cut off, and which rows need a fix. Nothing is changed or downloaded."
            )
        ),
        _ways_on,
    )
    st.markdown(f"**{t(N_('What a row can look like'))}**")
    st.caption(
        t(
            N_(
                "The form is detected from the rows. JSONL, JSON, CSV, TSV, Parquet and Arrow are read, packed as gz or zst too; columns of other names can be assigned."
            )
        )
    )
    for start in range(0, len(EXAMPLES), 2):
        for column, (name, row) in zip(st.columns(2), EXAMPLES[start : start + 2], strict=True):
            with column:
                st.caption(t(name))
                st.code(visible_lines(row), language="json", wrap_lines=True)


def _ways_on() -> None:
    st.page_link(
        DATA,
        label=t(N_("Look at the demo's data")),
        icon=":material/school:",
        query_params={addresses.DATASET: demo_name()},
    )
    st.page_link(CONFIG, label=t(N_("Open a config")), icon=":material/tune:")
