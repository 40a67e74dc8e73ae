"""The list of pages, and `main`, through which every one of them runs."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from lora_backend.i18n import N_, use_language
from pages.parts.shell import session
from pages.parts.shell.docs import DOCS
from pages.parts.shell.failing import sheltered, show_failures
from pages.parts.shell.header import PRODUCT, make_header
from pages.parts.shell.language import language, t

HOME, CONFIG, DATA, MODELS, PLAN, RUNS, VERIFY, TRY = (
    f"pages/{name}.py" for name in ("home", "config", "data", "models", "plan", "runs", "verify", "playground")
)
ICON = Path(__file__).with_name("icon.png")


def main() -> None:
    """One run of the script: page list first, then what stands on every page, then the page itself."""
    st.set_page_config(page_title=PRODUCT, page_icon=str(ICON), layout="wide")
    page = st.navigation(
        [
            st.Page(HOME, title=t(N_("Home")), icon=":material/home:", default=True),
            st.Page(CONFIG, title=t(N_("Config")), icon=":material/tune:"),
            st.Page(DATA, title=t(N_("Data")), icon=":material/dataset:"),
            st.Page(MODELS, title=t(N_("Models")), icon=":material/deployed_code:"),
            st.Page(PLAN, title=t(N_("Plan")), icon=":material/memory:"),
            st.Page(RUNS, title=t(N_("Runs")), icon=":material/show_chart:"),
            st.Page(VERIFY, title=t(N_("Verify")), icon=":material/verified:"),
            st.Page(TRY, title=t(N_("Try")), icon=":material/forum:"),
            st.Page(DOCS, title=t(N_("Docs")), icon=":material/menu_book:", visibility="hidden"),
        ],
        position="top",
    )
    if not st.session_state.get(session.SESSION_STARTED):
        # Without this the first session after a start loses its first click on what stands on every page.
        st.session_state[session.SESSION_STARTED] = True
        st.rerun()
    st.logo(str(ICON.with_name("logo.svg")), size="large")
    make_header()
    # A link from a page to itself changes what the script is asked for, not what the browser's address says; told
    # again, the browser sets its address where it differs, and only there.
    st.query_params.update()
    st.session_state[session.PAGE_MAY_RUN] = True
    show_failures()
    with use_language(language()), sheltered():
        page.run()
