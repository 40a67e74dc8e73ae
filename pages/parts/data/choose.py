"""Which data set is looked at, and with which model: picked, typed, or uploaded. The address keeps both."""

from __future__ import annotations

from contextlib import suppress

import streamlit as st
from streamlit.runtime.uploaded_file_manager import UploadedFile

from lora_backend.config.config_text import parse_config
from lora_backend.config.drafts import list_drafts
from lora_backend.config.named_data import paths_in
from lora_backend.data.hub_sets import cached_data_sets
from lora_backend.data.local_files import ENDINGS, LocalFile, local_files, name_of
from lora_backend.data.unread_uploads import keep_upload
from lora_backend.data.uploads import MAX_UPLOAD_BYTES
from lora_backend.demo.config import TRAIN_FILE
from lora_backend.errors import ConfigError, FlightdeckError
from lora_backend.escaping import visible
from lora_backend.formats import rough_size
from lora_backend.i18n import N_
from pages.parts.data import session
from pages.parts.data.question import VIEWS, Question
from pages.parts.shell import addresses
from pages.parts.shell.failing import safely
from pages.parts.shell.language import explain, t, t_plain
from pages.parts.shell.markdown import Markdown
from pages.parts.shell.services import installation
from pages.parts.widgets.models_here import models_here

PREFIX = "data-"
FILES_LAST_S = 10
RECENT_DRAFTS = 20
OF_A_DATA_SET = (
    addresses.ROW,
    addresses.PAGE,
    addresses.SEARCH,
    addresses.ONLY,
    addresses.VIEW,
    "data_format",
    "data_columns",
)
"""Words of the address that mean nothing for another data set."""


def choose_data_and_model(question: Question) -> None:
    """The two that the page shows rows by; the model may stay open."""
    left, right = st.columns(2)
    with left:
        _data_field(question)
    with right:
        _model_field(question)
    with st.expander(t(N_("Upload a data set")), icon=":material/upload_file:", expanded=not question.dataset):
        _upload_field()


def show_part(**words: object) -> None:
    """Another part of the same data set, by words of the address; what is None leaves it."""
    for name in (addresses.ROW, addresses.PAGE, addresses.SEARCH, addresses.ONLY, addresses.VIEW):
        st.query_params.pop(name, None)
    for name, value in words.items():
        if value is not None:
            st.query_params[name] = str(value)


def choose_view(question: Question, problems: int) -> str:
    """Which part of the page is shown; the address keeps it."""
    words = {
        "rows": t(N_("Row by row")),
        "lengths": t(N_("Lengths")),
        "problems": t(N_("Problems ({count})"), count=problems) if problems else t(N_("Problems")),
    }

    def worded(view: str) -> Markdown:
        return words[view]

    _show(addresses.VIEW, question.view)
    st.segmented_control(
        t(N_("View")),
        VIEWS,
        format_func=worded,
        required=True,
        key=PREFIX + addresses.VIEW,
        label_visibility="collapsed",
        on_change=safely(_chose_view),
    )
    return question.view


def open_data_set(name: str) -> None:
    """Show another data set, from its first row."""
    for key in OF_A_DATA_SET:
        st.query_params.pop(key, None)
    if name:
        st.query_params[addresses.DATASET] = name
    else:
        st.query_params.pop(addresses.DATASET, None)


def demo_name() -> str:
    """The demo's data, as the address names it."""
    return name_of(TRAIN_FILE, installation().data_roots)


def _data_field(question: Question) -> None:
    sizes = {file.name: file.size_bytes for file in _files(str(installation().workspace))}
    names = list(
        dict.fromkeys(
            [*([question.dataset] if question.dataset else []), *sizes, *cached_data_sets(), *_names_in_drafts()]
        )
    )
    _show(addresses.DATASET, question.dataset or None)
    st.selectbox(
        t(N_("Data set")),
        names,
        index=None,
        format_func=lambda name: visible(_with_size(name, sizes)),
        key=PREFIX + addresses.DATASET,
        accept_new_options=True,
        placeholder=t(N_("Choose one, or type its path")),
        on_change=safely(_chose_data),
        help=t(N_("Files below the data roots, uploads, data sets in the hub's cache, and what your drafts name.")),
    )


def _model_field(question: Question) -> None:
    names = list(dict.fromkeys([*([question.model] if question.model else []), *models_here()]))
    _show(addresses.MODEL, question.model or None)
    st.selectbox(
        t(N_("Model")),
        names,
        index=None,
        format_func=visible,
        key=PREFIX + addresses.MODEL,
        accept_new_options=True,
        placeholder=t(N_("Choose one to see its tokens")),
        on_change=safely(_chose_model),
        help=t(N_("Only its tokenizer and chat template are read, no weights.")),
    )


def _upload_field() -> None:
    file = st.file_uploader(
        t(N_("Rows of any form: chats, questions and answers, instructions, plain texts")),
        type=[ending.removeprefix(".") for ending in ENDINGS],
        max_upload_size=MAX_UPLOAD_BYTES // 2**20,
        key="data_upload",
    )
    if file is None:
        return
    known = st.session_state.get(session.UPLOADED)
    if known is not None and known[0] == file.file_id:
        if isinstance(known[1], Exception):
            st.error(explain(known[1]), icon=":material/error:")
        return
    found = _taken(file)
    st.session_state[session.UPLOADED] = (file.file_id, found)
    if isinstance(found, Exception):
        st.error(explain(found), icon=":material/error:")
        return
    _files.clear()
    open_data_set(found)
    st.rerun()


def _taken(file: UploadedFile) -> str | FlightdeckError | OSError:
    """The name of what was uploaded, or why it was not kept."""
    try:
        return name_of(keep_upload(file.getvalue(), file.name, installation().uploads), installation().data_roots)
    except (FlightdeckError, OSError) as error:
        return error.with_traceback(None)


def _with_size(name: str, sizes: dict[str, int]) -> str:
    parts = [t_plain(N_("the demo's data")) if name == demo_name() else name]
    return " · ".join([*parts, *([rough_size(sizes[name])] if name in sizes else [])])


@st.cache_data(show_spinner=False, ttl=FILES_LAST_S, max_entries=8)
def _files(workspace: str) -> list[LocalFile]:
    return local_files(installation().data_roots)


def _names_in_drafts() -> list[str]:
    """Data sets that the newest drafts name."""
    names: list[str] = []
    for draft in list_drafts(installation().drafts)[:RECENT_DRAFTS]:
        with suppress(ConfigError):  # deleted since the list was made
            values = parse_config(draft.text()).values
            names += [named.path for named in paths_in(values) if named.key != "questions"]
    return names


def _show(name: str, value: str | None) -> None:
    """Have the field `name` show `value`; left alone where it does, so that nothing is typed over."""
    if PREFIX + name not in st.session_state or st.session_state[PREFIX + name] != value:
        st.session_state[PREFIX + name] = value


def _chose_data() -> None:
    open_data_set((st.session_state[PREFIX + addresses.DATASET] or "").strip())


def _chose_model() -> None:
    name = (st.session_state[PREFIX + addresses.MODEL] or "").strip()
    if name:
        st.query_params[addresses.MODEL] = name
    else:
        st.query_params.pop(addresses.MODEL, None)


def _chose_view() -> None:
    chosen = st.session_state[PREFIX + addresses.VIEW]
    if chosen in (None, VIEWS[0]):
        st.query_params.pop(addresses.VIEW, None)
    else:
        st.query_params[addresses.VIEW] = chosen
