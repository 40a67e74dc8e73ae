"""Runs: the list of all, and one run watched live."""

from __future__ import annotations

from pages.parts.guard import guard

guard()

import streamlit as st

from lora_backend.errors import RunError
from lora_backend.i18n import N_
from lora_backend.runs.folder import RunFolder, list_runs, open_run
from pages.parts import state_keys
from pages.parts.header import page_header
from pages.parts.language import say, t
from pages.parts.navigation import CONFIG, HOME, RUNS
from pages.parts.run_list import run_row, run_title
from pages.parts.run_view import ended_run, live_run
from pages.parts.services import settings


def all_runs() -> None:
    page_header(t(N_("Runs")), t(N_("Every training run of this workspace, the newest first.")))
    runs = list_runs(settings().runs)
    if not runs:
        st.info(t(N_("No run yet. Start the demo on the home page, or launch a config.")), icon=":material/info:")
        with st.container(horizontal=True):
            st.page_link(HOME, label=t(N_("To the demo")), icon=":material/home:")
            st.page_link(CONFIG, label=t(N_("Open a config")), icon=":material/tune:")
    for run in runs:
        run_row(run)


def one_run(run: RunFolder) -> None:
    about = run.read_run()
    page_header(run_title(about), t(N_("Run {id}, started by {actor}"), id=run.id, actor=about["actor"]))
    if run.state().has_ended:
        ended_run(run)
    else:
        live_run(run)
    st.page_link(RUNS, label=t(N_("All runs")), icon=":material/arrow_back:")


run_id = st.query_params.get(state_keys.RUN)
if run_id:
    try:
        one_run(open_run(settings().runs, run_id))
    except RunError as error:
        page_header(t(N_("Runs")), "")
        st.warning(say(error.message), icon=":material/search_off:")
        st.page_link(RUNS, label=t(N_("All runs")), icon=":material/arrow_back:")
else:
    all_runs()
