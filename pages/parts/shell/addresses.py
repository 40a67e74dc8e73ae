"""Addresses of pages for the cells of a table, which Streamlit takes as they are; elsewhere `st.page_link` makes them."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlencode

import streamlit as st

from pages.parts.shell import state_keys


def page_address(page: str, **query: str) -> str:
    """`/runs?run=…` for `pages/runs.py`: below `server.baseUrlPath`, in the language that this page's address names."""
    base = st.get_option("server.baseUrlPath").strip("/")
    language = st.query_params.get(state_keys.LANGUAGE)
    words = query | ({state_keys.LANGUAGE: language} if language else {})
    return "/".join(["", *filter(None, [base]), Path(page).stem]) + f"?{urlencode(words)}"
