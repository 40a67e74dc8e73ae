"""Config: write or upload one, see what it changes and what is wrong with it, launch it."""

from __future__ import annotations

from pages.parts.shell.guard import guard

guard()

from functools import partial

import streamlit as st

from lora_backend.config.config_text import parse_config
from lora_backend.config.drafts import Draft, open_draft
from lora_backend.errors import FlightdeckError
from lora_backend.i18n import N_
from lora_backend.preflight.startable import judge, startable
from pages.parts.draft.actions import launch_when_asked, show_actions
from pages.parts.draft.bar import beside_blockers, show_bar
from pages.parts.draft.blockers import needs_data
from pages.parts.draft.conflict import show_conflict
from pages.parts.draft.diff.consequences import are_shown
from pages.parts.draft.diff.view import show_differences
from pages.parts.draft.edit import current_text
from pages.parts.draft.expected_ranks import show_expected_ranks
from pages.parts.draft.first_steps import first_steps, is_task
from pages.parts.draft.foreign_import import settle, show_kept_import
from pages.parts.draft.form import config_form
from pages.parts.draft.naming import draft_title
from pages.parts.draft.on_cluster import launch_elsewhere
from pages.parts.draft.start import choose_start
from pages.parts.draft.table import many_runs
from pages.parts.draft.text_view import text_view
from pages.parts.draft.upload import data_upload
from pages.parts.shell import addresses
from pages.parts.shell.header import Crumb, page_header
from pages.parts.shell.language import say, t
from pages.parts.shell.markdown import escape
from pages.parts.shell.navigation import CONFIG
from pages.parts.shell.services import installation, resolved
from pages.parts.widgets.findings import show_findings
from pages.parts.widgets.rows_reading import wait_for_rows

CAPTION = N_("Set up a run: check it, compare it with the defaults, launch it.")


def editor(draft: Draft) -> None:
    text = current_text(draft)
    document = parse_config(text)
    title = draft_title(draft, document.values)
    page_header(escape(title), crumbs=[Crumb(t(N_("Config")), CONFIG)], tab=title, docs="check")
    config = resolved(document)
    wait_for_rows(config)
    judged = judge(config)
    start = startable(judged)
    findings = beside_blockers(judged.result, start)
    pressed = show_bar(draft, config, findings, start)
    show_conflict(draft)
    show_actions(draft, config, start)
    left, right = st.columns([2, 3] if are_shown(draft, text) else [1, 1], gap="medium")
    with left:
        with st.container():  # one place, whatever stands in it, so that the tabs keep theirs and the one that is open
            first_steps(draft, document, [blocker for blocker in start.blockers if is_task(blocker)])
            launch_when_asked(draft, config, start, pressed=pressed)
            mend = partial(settle, draft, document, judged.result) if document.is_readable else None
            show_findings(findings, mend)
        form, source = st.tabs([t(N_("Form")), t(N_("Text"))], key=f"config_tabs-{draft.id}")
        with form:
            config_form(draft, config)
        with source:
            text_view(draft, text, [*findings, *start.blockers])
        if not needs_data(start):
            data_upload(draft)
    with right:
        if document.is_readable:
            show_differences(draft, document)
        show_kept_import(draft)
        show_expected_ranks(config)
        many_runs(draft, text)
        launch_elsewhere(draft, judged.result)


draft_id = st.query_params.get(addresses.DRAFT)
problem: FlightdeckError | None = None
if draft_id is not None:
    try:
        draft = open_draft(installation().drafts, draft_id)
    except FlightdeckError as error:
        problem, draft_id = error, None
    else:
        editor(draft)
if draft_id is None:
    page_header(t(N_("Config")), t(CAPTION), docs="check")
    if problem is not None:
        st.warning(say(problem.message), icon=":material/search_off:")
    choose_start()
