"""What was counted, in figures: rows, tokens, what is trained on, padding, and how long an epoch takes."""

from __future__ import annotations

import hashlib
import json

import streamlit as st

from lora_backend.data.data_report import DataReport, TokenCounts
from lora_backend.errors import FlightdeckError
from lora_backend.formats import seconds_range
from lora_backend.i18n import N_, Message
from lora_backend.planning.planner import NotTracedError
from lora_backend.preflight.epoch_time import epoch_seconds
from lora_backend.views.data_view import DataFigure, estimate_message, rows_message, token_figures
from pages.parts.data.subject import Subject
from pages.parts.shell import addresses
from pages.parts.shell.language import say, t
from pages.parts.shell.markdown import Markdown, bold, escape
from pages.parts.shell.navigation import PLAN

TIME_LASTS_S = 60
"""How long an estimate is believed: the machine's GPUs may be taken or freed."""


def show_figures(subject: Subject, report: DataReport) -> None:
    """Side by side, as many as fit."""
    reason: Message | None = None
    with st.container(border=True, key="data_figures"), st.container(horizontal=True, gap="medium"):
        _figure(t(N_("Rows")), escape(f"{report.rows:,}"), say(rows_message(report)))
        if report.counts is not None:
            for figure in token_figures(report.counts):
                _counted(figure)
            reason = _time(subject, report.counts, report.rows)
    estimated = say(estimate_message(report.counts)) if report.counts is not None else Markdown()
    if estimated:
        st.caption(estimated)
    if reason is not None:
        with st.container(horizontal=True, vertical_alignment="center"):
            st.caption(say(reason), width="content")
            query = {addresses.MODEL: subject.question.model}
            st.page_link(PLAN, label=t(N_("Open the plan")), icon=":material/memory:", query_params=query)


def _counted(figure: DataFigure) -> None:
    value = f"≈ {figure.value}" if figure.is_estimate else figure.value
    _figure(say(figure.name), escape(value), say(figure.help) or None)


def _time(subject: Subject, counts: TokenCounts, num_rows: int) -> Message | None:
    """The time of an epoch, where the model's step is known; else why it is not told."""
    try:
        found = _epoch_seconds(_key(subject, counts, num_rows), subject, counts, num_rows)
    except NotTracedError:
        return Message(N_("The time per epoch will show once the model has been planned with these settings."))
    except FlightdeckError as error:
        return Message(N_("The time per epoch is not known: {reason}"), {"reason": error.message})
    if found is None:
        return Message(N_("The time per epoch is not known for this machine's devices."))
    _figure(t(N_("Time per epoch")), say(seconds_range(*found)), t(N_("Estimated by the plan for this machine.")))
    return None


@st.cache_data(show_spinner=False, ttl=TIME_LASTS_S, max_entries=64)
def _epoch_seconds(key: str, _subject: Subject, _counts: TokenCounts, _num_rows: int) -> tuple[float, float] | None:
    return epoch_seconds(_subject.named, _counts, _num_rows)


def _key(subject: Subject, counts: TokenCounts, num_rows: int) -> str:
    said = [subject.question.values(), str(subject.model), counts.to_json(), num_rows]
    return hashlib.sha256(json.dumps(said, sort_keys=True, default=str).encode()).hexdigest()


def _figure(label: Markdown, value: Markdown, help_text: Markdown | None = None) -> None:
    """Smaller than `st.metric`, which cuts long figures off."""
    with st.container(width="content", gap=None):
        st.caption(label, help=help_text, width="content")
        st.markdown(bold(value), width="content")
