"""The field through which an adapter is uploaded: a zip, or its files."""

from __future__ import annotations

from collections.abc import Callable
from typing import BinaryIO

import streamlit as st

from lora_backend.errors import FlightdeckError
from lora_backend.i18n import N_
from lora_backend.models.adapter_upload import MAX_UPLOAD_BYTES, StoredAdapter, store_adapter
from pages.parts.shell import session
from pages.parts.shell.language import explain, t
from pages.parts.shell.markdown import code, joined
from pages.parts.shell.services import installation
from pages.parts.widgets.adapters_listed import forget_adapters

MOST_NAMED = 5


def adapter_upload(key: str, use: Callable[[StoredAdapter], None], *, is_open: bool = False) -> None:
    """Take an upload once; `use` is given what was kept, and the page is drawn anew. `is_open`: the field is there at
    once, where nothing else is to be done."""
    place = st.container() if is_open else st.popover(t(N_("Upload an adapter")), icon=":material/upload_file:")
    with place:
        files = st.file_uploader(
            t(N_("A zip, or the files that PEFT saves: adapter_config.json and adapter_model.safetensors")),
            accept_multiple_files=True,
            max_upload_size=MAX_UPLOAD_BYTES // 2**20,
            key=key,
        )
        if not files:
            return
        uploads = st.session_state.setdefault(session.ADAPTER_UPLOADS, {})
        ids = [file.file_id for file in files]
        known_ids, found = uploads.get(key, (None, None))
        is_new = known_ids != ids
        if is_new:
            with st.spinner(t(N_("Checking the adapter"))):
                found = _stored([(file.name, file) for file in files])
            uploads[key] = (ids, found)
        if isinstance(found, StoredAdapter):
            _say_kept(found)
        else:
            st.error(explain(found), icon=":material/error:")
    if is_new and isinstance(found, StoredAdapter):
        forget_adapters()
        use(found)
        st.rerun()


def _stored(files: list[tuple[str, BinaryIO]]) -> StoredAdapter | FlightdeckError | OSError:
    try:
        return store_adapter(files, installation())
    except (FlightdeckError, OSError) as error:
        return error.with_traceback(None)


def _say_kept(stored: StoredAdapter) -> None:
    st.success(t(N_("Kept as {name}."), name=stored.folder.name), icon=":material/check_circle:")
    if stored.left_out:
        shown = joined(", ", map(code, stored.left_out[:MOST_NAMED]))
        more = len(stored.left_out) - MOST_NAMED
        st.caption(
            t(N_("Not kept, because it is not part of an adapter: {names}"), names=shown)
            if more <= 0
            else t(
                N_("Not kept, because it is not part of an adapter: {names} and {count} more"), names=shown, count=more
            )
        )
