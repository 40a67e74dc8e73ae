"""What a page's address may say: the query parameters, which a link carries; and addresses for the cells of a table."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlencode

import streamlit as st

LANGUAGE = "lang"
DRAFT = "draft"
BASE = "base"
"""What a config is compared with: `preset:<id>`, `run:<id>` or `file:<name>`; absent: the defaults."""
RUN = "run"
RUN_FILTER, RUN_STATES, RUN_ARCHIVED, RUN_COLUMNS = "filter", "states", "archived", "columns"
"""Of the table of runs, and the keys of its widgets."""
COMPARE = "compare"
"""Ids of runs, separated by commas."""
FOLDER = "folder"
"""A folder of a training that was not started here."""
ADAPTER = "adapter"
ASKED_CONFIG = "config"
"""Path of the config that an adapter is held against."""
OTHER_ADAPTER = "other"
"""Folder of the adapter that stands beside it."""
MODEL = "model"
REVISION = "revision"
"""Of a model on the hub: a branch, a tag or a commit."""
GPUS = "gpus"
PLACEMENT = "placement"
"""A placement made by hand: the device of each part of the model."""
MACHINES = "machines"
"""GPU words of the machines that are compared, with `;` between them."""

DATASET = "dataset"
"""The data set that is looked at, as a config names it; beside it stand keys of the config by their own names."""
ROW = "row"
"""The row that stands alone, from 1."""
PAGE = "page"
SEARCH = "search"
VIEW = "view"
"""Which part of a page with several is shown."""
ONLY = "only"
"""The code of a note: only the rows of which that is said."""


CHAT = "chat"
"""Id of a chat of the Try page."""
WITH = "with"
"""Adapters that the Try page puts beside one another, with `;` between them: `run:<id>`, `run:<id>/<step>`, or a folder."""


def page_address(page: str, /, **query: str) -> str:
    """`/runs?run=…` for `pages/runs.py`: below `server.baseUrlPath`, in the language that this page's address names."""
    base = st.get_option("server.baseUrlPath").strip("/")
    language = st.query_params.get(LANGUAGE)
    words = query | ({LANGUAGE: language} if language else {})
    return "/".join(["", *filter(None, [base]), Path(page).stem]) + f"?{urlencode(words)}"
