"""The first line of every page: nothing shows itself that did not come through `app.py`.

On a fresh server a deep link runs the page's file directly, before `st.navigation` was ever called
(Streamlit's own discovery of `pages/`). The guard then runs `main` in its place.
"""

from __future__ import annotations

import streamlit as st

from pages.parts.shell import session


def guard() -> None:
    """Let the page go on only where `main` has just allowed it."""
    if st.session_state.pop(session.PAGE_MAY_RUN, False):
        return
    from pages.parts.shell.navigation import main  # here, for navigation names the pages and they import this

    main()
    st.stop()
