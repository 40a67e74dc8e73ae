"""Upload a data set into the data root and name it in the draft."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import streamlit as st
from streamlit.runtime.uploaded_file_manager import UploadedFile

from lora_backend.config.config_text import parse_config
from lora_backend.config.drafts import Draft
from lora_backend.config.named_data import trained_on
from lora_backend.data.local_files import ENDINGS
from lora_backend.data.unpacking import ENDINGS as PACKED
from lora_backend.data.unread_uploads import keep_upload
from lora_backend.data.uploads import MAX_UPLOAD_BYTES, store_upload
from lora_backend.errors import DataError, FlightdeckError
from lora_backend.i18n import N_, Plural
from lora_backend.preflight.named_files import kept_summaries
from pages.parts.draft import session
from pages.parts.draft.edit import set_values
from pages.parts.shell import addresses
from pages.parts.shell.language import explain, t
from pages.parts.shell.navigation import DATA
from pages.parts.shell.services import installation
from pages.parts.widgets.data_picker import forget_data
from pages.parts.widgets.rows_reading import reading_bar


def data_upload(draft: Draft) -> None:
    """The field, folded."""
    with st.expander(t(N_("Upload a data set")), icon=":material/upload_file:"):
        upload_field(draft)


def upload_field(draft: Draft) -> None:
    """A field for a file of rows; a good one is kept and becomes the draft's `dataset`."""
    file = st.file_uploader(
        t(N_("JSONL, JSON, CSV, TSV, Parquet or Arrow, also packed as gz or zst")),
        type=sorted({ending.rpartition(".")[2] for ending in (*ENDINGS, *PACKED)}),
        max_upload_size=MAX_UPLOAD_BYTES // 2**20,
        key=f"data-{draft.id}",
    )
    if file is None:
        return
    stored = _stored(file)
    if isinstance(stored, Exception):
        st.error(explain(stored), icon=":material/error:")
        if isinstance(stored, DataError):
            _fix_on_data_page(draft, file)
        return
    path, num_rows = stored
    st.success(
        t(Plural("{count} row, kept as {file}.", "{count} rows, kept as {file}."), count=num_rows, file=path.name),
        icon=":material/check_circle:",
    )
    text = draft.text()
    document = parse_config(text)
    is_new = document.is_readable and path.name not in [named.path for named in trained_on(document.values)]
    several = document.values.get("datasets")
    label = t(N_("Train on it too: add it to `datasets`")) if several else t(N_("Train on it: set `dataset`"))
    if is_new and st.button(label, key=f"use-{path.name}"):
        added = {"datasets": [*several, {"path": path.name}]} if isinstance(several, list) else {"dataset": path.name}
        set_values(draft, added)
        forget_data()
        st.rerun()


def _fix_on_data_page(draft: Draft, file: UploadedFile) -> None:
    """Keep the file as it is, and show its rows where they can be fixed."""
    if not st.button(t(N_("Fix the rows on the Data page")), icon=":material/dataset:", key=f"fix-{draft.id}"):
        return
    try:
        path = keep_upload(file.getvalue(), file.name, installation().uploads)
    except (FlightdeckError, OSError) as error:
        st.error(explain(error), icon=":material/error:")
    else:
        st.switch_page(DATA, query_params={addresses.DRAFT: draft.id, addresses.DATASET: path.name})


def _stored(file: UploadedFile) -> tuple[Path, int] | FlightdeckError | OSError:
    """What came of an upload; it is read once, however often the page runs while it lies in the field."""
    known = st.session_state.get(session.UPLOADED_DATA)
    if known is not None and known[0] == file.file_id:
        return cast("tuple[Path, int] | FlightdeckError | OSError", known[1])
    found: tuple[Path, int] | FlightdeckError | OSError
    with reading_bar(file.name, file.size) as tell:
        try:
            found = store_upload(
                file.getvalue(), file.name, installation().uploads, tell, kept=kept_summaries(installation())
            )
        except (FlightdeckError, OSError) as error:
            found = error.with_traceback(None)
    st.session_state[session.UPLOADED_DATA] = (file.file_id, found)
    return found
