"""A file of prompts that every column answers, as a run that is kept with its answers."""

from __future__ import annotations

from pathlib import Path

import streamlit as st
from streamlit.runtime.uploaded_file_manager import UploadedFile

from lora_backend.atomic import write_atomic
from lora_backend.chats.documents import Chat
from lora_backend.data.prompt_rows import read_prompts
from lora_backend.data.question_rows import sha256_of_bytes
from lora_backend.data.unread_uploads import keep_upload
from lora_backend.data.uploads import MAX_UPLOAD_BYTES
from lora_backend.errors import DataError, FlightdeckError
from lora_backend.i18n import N_
from lora_backend.launching.jobs import start_job
from lora_backend.runs.record.job_documents import EvaluateRequest
from pages.parts.playground import session
from pages.parts.playground.open_chat import refuse_outside
from pages.parts.shell import addresses
from pages.parts.shell.failing import safely
from pages.parts.shell.language import explain, t
from pages.parts.shell.navigation import RUNS
from pages.parts.shell.services import browser_policy, installation

ENDINGS = ["jsonl", "ndjson", "txt"]
READ_FIRST_BYTES = 8 * 2**20
"""Up to so many a file is read before its run is started, so that a wrong line is said here."""
PATH_FIELD = "try_prompts_path"


def prompts_file(chat: Chat, *, can_run: bool) -> None:
    """Choose a file and start; where one was started, the way to its answers."""
    with st.expander(t(N_("Run a file of prompts")), key="try_prompts_box"):
        st.caption(
            t(
                N_(
                    "Every column answers each prompt, with the settings above. It continues without this page, and the answers are kept with the run."
                )
            )
        )
        uploaded, named = st.columns(2)
        with uploaded:
            file = st.file_uploader(
                t(N_("JSONL with `prompt` or `messages`, or a text file with one prompt per line")),
                type=ENDINGS,
                max_upload_size=MAX_UPLOAD_BYTES // 2**20,
                key="try_prompts_upload",
            )
        with named:
            name = st.text_input(t(N_("Or a path below the data folders")), key=PATH_FIELD, placeholder="prompts.jsonl")
        path = _chosen(file, name.strip())
        st.button(
            t(N_("Start")), icon=":material/play_arrow:", key="start_prompts", type="primary",
            disabled=path is None or not can_run or not chat.columns, on_click=safely(_start), args=(chat, path),
        )  # fmt: skip
        asked_of, run_id = st.session_state.get(session.JOB, (None, None))
        if run_id is not None and asked_of == chat.id:
            st.page_link(
                RUNS, label=t(N_("To the run {id} and its answers"), id=run_id), icon=":material/arrow_forward:",
                query_params={addresses.RUN: run_id},
            )  # fmt: skip


def _chosen(file: UploadedFile | None, name: str) -> Path | None:
    """The file that was uploaded or named; None where there is none, or where it is said why not."""
    try:
        if file is not None:
            return _kept(file)
        if not name:
            return None
        path = browser_policy().data(name)
        if not path.is_file():
            raise DataError(N_("There is no file {path}. Upload it, or check the path."), path=name[:200])
        return path
    except (FlightdeckError, OSError) as error:
        st.error(explain(error), icon=":material/error:")
        return None


def _kept(file: UploadedFile) -> Path:
    """An upload, written once, however often the page runs while it lies in the field."""
    known = st.session_state.get(session.UPLOADED_PROMPTS)
    if known is None or known[0] != file.file_id:
        known = (file.file_id, _written(file))
        st.session_state[session.UPLOADED_PROMPTS] = known
    return Path(known[1])


def _written(file: UploadedFile) -> Path:
    """Rows as every upload of rows; a text under its content's hash alone, for it is no data set."""
    data, uploads = file.getvalue(), installation().uploads
    if not file.name.lower().endswith(".txt"):
        return keep_upload(data, file.name, uploads)
    uploads.mkdir(parents=True, exist_ok=True)
    path = uploads / f"prompts-{sha256_of_bytes(data)[:16]}.txt"
    write_atomic(path, data)
    return path


def _start(chat: Chat, path: Path) -> None:
    if path.stat().st_size <= READ_FIRST_BYTES:
        read_prompts(path)
    refuse_outside(chat)
    request = EvaluateRequest(
        base_model=str(browser_policy().model(chat.base_model)),
        columns=chat.columns,
        of_run=_run_of(chat),
        prompts=str(path.resolve()),
        sampling=chat.sampling.to_json(),
    )
    job = start_job(request, installation(), name=path.name)
    st.session_state[session.JOB] = (chat.id, job.id)


def _run_of(chat: Chat) -> str | None:
    """The run that made the first adapter that answers."""
    runs = installation().runs
    folders = [Path(column.adapter) for column in chat.columns if column.adapter]
    return next((folder.relative_to(runs).parts[0] for folder in folders if folder.is_relative_to(runs)), None)
