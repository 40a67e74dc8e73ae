"""Config: write or upload one, see what it changes and what is wrong with it, launch it."""

from __future__ import annotations

from pages.parts.guard import guard

guard()

import streamlit as st

from lora_backend.config.check import CheckResult
from lora_backend.config.diff import diff_configs
from lora_backend.config.drafts import Draft, open_draft
from lora_backend.config.files import ConfigDocument, parse_config
from lora_backend.config.schema import KEYS, default_config
from lora_backend.errors import FlightdeckError
from lora_backend.i18n import N_
from lora_backend.preflight.roots import check_from_browser
from pages.parts import state_keys
from pages.parts.config_form import config_form
from pages.parts.config_start import choose_start
from pages.parts.data_upload import data_upload
from pages.parts.expected_ranks import show_expected_ranks
from pages.parts.findings import show_findings
from pages.parts.header import page_header
from pages.parts.language import say, t
from pages.parts.launch import ask_where_it_does_not_fit, launch_draft
from pages.parts.navigation import CONFIG, RUNS
from pages.parts.services import settings
from pages.parts.tables import diff_table


def editor(draft: Draft) -> None:
    text = draft.text()
    document = parse_config(text)
    result = check_from_browser(document, settings())
    actions(draft, text, result)
    left, right = st.columns([1, 1], gap="medium")
    with left:
        form, source = st.tabs([t(N_("Form")), t(N_("Text"))])
        with form:
            if document.is_readable:
                config_form(draft, document)
            else:
                st.info(t(N_("The form shows again when the text can be read.")), icon=":material/edit_off:")
        with source:
            text_view(draft, text)
        data_upload(draft)
    with right:
        show_findings(result)
        differences(document)
        show_expected_ranks(document.values)


def actions(draft: Draft, text: str, result: CheckResult) -> None:
    launched = draft.launches()
    with st.container(horizontal=True, vertical_alignment="center"):
        launch = st.button(
            t(N_("Launch")), type="primary", icon=":material/rocket_launch:", disabled=not result.is_valid, key="launch",
            help=None if result.is_valid else t(N_("Mend the errors first.")),
        )  # fmt: skip
        if st.button(t(N_("Save")), icon=":material/save:", key="save"):
            st.toast(t(N_("Saved. This page's address opens the draft again.")))
        st.download_button(
            t(N_("Download")), text, file_name="config.yaml", mime="application/yaml", icon=":material/download:",
            on_click="ignore", key="download",
        )  # fmt: skip
        if st.button(t(N_("New draft")), icon=":material/add:", type="tertiary", key="new_draft"):
            st.switch_page(CONFIG)
        if launched:
            st.page_link(
                RUNS, label=t(N_("Last launched: {id}"), id=launched[-1]), icon=":material/show_chart:",
                query_params={state_keys.RUN: launched[-1]},
            )  # fmt: skip
        st.caption(t(N_("Draft {id}, kept on disk with every change"), id=draft.id))
    if launch:
        launch_draft(draft, text, len(launched))
    ask_where_it_does_not_fit(draft, text, len(launched))


def text_view(draft: Draft, text: str) -> None:
    revision = st.session_state.setdefault(state_keys.TEXT_REVISION, 0)
    key = f"text-{draft.id}-{revision}"

    def changed() -> None:
        draft.save(st.session_state[key])
        st.session_state[state_keys.FORM_REVISION] = st.session_state.get(state_keys.FORM_REVISION, 0) + 1

    st.text_area(
        t(N_("YAML; comments and order are kept")), text, height=520, key=key, on_change=changed,
        help=t(N_("A change is kept when you leave the field, or press Ctrl and Enter.")),
    )  # fmt: skip


def differences(document: ConfigDocument) -> None:
    rows = diff_configs(document.values, default_config(), KEYS)
    order = list(KEYS)
    rows.sort(key=lambda row: order.index(row.key) if row.key in KEYS else len(order))
    given = [row for row in rows if row.status not in ("equal", "missing")]
    shown = st.segmented_control(
        t(N_("Against the defaults of train_lora")),
        ["differences", "all"],
        format_func=lambda word: t({"differences": N_("Differences"), "all": N_("All keys")}[word]),
        default="differences",
        required=True,
        key=state_keys.DIFF_FILTER,
    )
    if shown == "differences" and not given:
        st.info(t(N_("Nothing differs from the defaults.")), icon=":material/equal:")
    else:
        diff_table(given if shown == "differences" else rows, t(N_("Default")))


page_header(t(N_("Config")), t(N_("What a run shall do, what differs from the defaults, and what is wrong with it.")))
draft_id = st.query_params.get(state_keys.DRAFT)
if draft_id is None:
    choose_start()
else:
    try:
        editor(open_draft(settings().drafts, draft_id))
    except FlightdeckError as error:
        st.warning(say(error.message), icon=":material/search_off:")
        choose_start()
