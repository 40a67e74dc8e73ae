"""What the adapter answered to the config's questions while it was being trained, on the run's page."""

from __future__ import annotations

import streamlit as st

from lora_backend.escaping import visible_lines
from lora_backend.i18n import N_, Plural
from lora_backend.runs.record.run_store import RunStore
from lora_backend.runs.record.sample_document import Sample
from pages.parts.shell.language import t
from pages.parts.shell.markdown import bold

NEWEST, MOST = 3, 50
"""Answers to a question that are seen at once, and at most."""


def show_samples(run: RunStore) -> bool:
    """Each question with its answers, the newest first; False where nothing was asked (yet)."""
    samples = [sample for sample in run.read_samples() if sample.question]
    if not samples:
        return False
    st.header(t(N_("While it trained")), anchor=False)
    for question in dict.fromkeys(sample.question for sample in samples):
        answers = [sample for sample in reversed(samples) if sample.question == question]
        with st.container(border=True):
            st.markdown(bold(question))
            _answers(answers[:NEWEST])
            if earlier := answers[NEWEST:MOST]:
                count = len(earlier)
                with st.expander(t(Plural("{count} earlier answer", "{count} earlier answers"), count=count)):
                    _answers(earlier)
    return True


def _answers(answers: list[Sample]) -> None:
    for sample in answers:
        st.caption(t(N_("Step {step}"), step=sample.step))
        st.text(visible_lines(sample.answer or "–"))
