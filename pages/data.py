"""Data: what a model learns from a data set, row by row; what is wrong with it, and how to fix it."""

from __future__ import annotations

from pages.parts.shell.guard import guard

guard()

import streamlit as st

from lora_backend.errors import FlightdeckError
from lora_backend.i18n import N_
from pages.parts.data.choose import choose_data_and_model
from pages.parts.data.edits import show_pending
from pages.parts.data.empty import show_empty
from pages.parts.data.question import Question, read_question
from pages.parts.data.rows import raw_rows, row_numbers, search_bar, show_rows
from pages.parts.data.subject import subject_of
from pages.parts.data.use import use_in_config
from pages.parts.shell import addresses
from pages.parts.shell.header import page_header
from pages.parts.shell.language import explain, say, t
from pages.parts.shell.navigation import CONFIG


def show(question: Question) -> None:
    subject = subject_of(question)
    if subject.no_model is not None:
        st.warning(say(subject.no_model), icon=":material/deployed_code_alert:")
    with st.container(horizontal=True, vertical_alignment="center"):
        use_in_config(question)
        if addresses.DRAFT in question.params:
            query = {addresses.DRAFT: question.params[addresses.DRAFT]}
            st.page_link(CONFIG, label=t(N_("Back to the draft")), icon=":material/arrow_back:", query_params=query)
    show_pending(subject)
    search_bar(question)
    show_rows(subject, raw_rows(subject, row_numbers(question, None)), {}, None, None)


page_header(t(N_("Data")), t(N_("What a model learns from your data: every row, token by token.")))
try:
    asked = read_question()
    choose_data_and_model(asked)
    if asked.dataset:
        show(asked)
    else:
        show_empty()
except (FlightdeckError, OSError) as error:
    st.error(explain(error), icon=":material/error:")
