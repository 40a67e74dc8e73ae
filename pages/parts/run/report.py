"""A run's report as a file: made when it is asked for, in the reader's language."""

from __future__ import annotations

import streamlit as st

from lora_backend.i18n import N_
from lora_backend.runs.record.run_store import RunStore
from lora_backend.views.report_page import report_page
from pages.parts.shell.language import language, t
from pages.parts.shell.services import installation


def report_button(run: RunStore) -> None:
    """One HTML page that needs nothing else."""
    place, reader = installation(), language()
    st.download_button(
        t(N_("Download report")),
        lambda: report_page(run, place, reader),
        file_name=f"{run.id}.html",
        mime="text/html",
        icon=":material/summarize:",
        on_click="ignore",
        key="download_report",
        help=t(N_("One HTML page to send, print or keep: result, curves, answers, config, ranks, memory, versions.")),
    )
