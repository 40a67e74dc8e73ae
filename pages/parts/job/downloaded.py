"""A download on the screen: pause, resume and cancel while it goes on, the ways on from what it brought."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from lora_backend.config.config_writing import with_values
from lora_backend.config.drafts import new_draft
from lora_backend.config.patch import Patch
from lora_backend.formats import size
from lora_backend.hub.cache import cached_repository, delete_partials
from lora_backend.hub.hub_names import HubError
from lora_backend.i18n import N_
from lora_backend.installation import path_of
from lora_backend.launching.jobs import start_job
from lora_backend.models.find import ADAPTER_CONFIG
from lora_backend.runs.record.job_documents import DownloadRequest, DownloadResult
from lora_backend.runs.record.run_store import RunStore
from lora_backend.runs.record.states import RunState
from lora_backend.runs.record.transitions import request_stop
from pages.parts.job import session
from pages.parts.shell import addresses
from pages.parts.shell.failing import safely, tell
from pages.parts.shell.language import sentences, t
from pages.parts.shell.navigation import CONFIG, MODELS, PLAN, TRY, VERIFY
from pages.parts.shell.services import installation
from pages.parts.widgets.adapters_listed import forget_adapters
from pages.parts.widgets.models_here import forget_models


def show_download(run: RunStore) -> None:
    """On the job's own page, which has the buttons to pause and to resume: what it brought, or the way out of it."""
    request = asked_of(run)
    if request is None:
        st.warning(t(N_("The request of this download cannot be read.")), icon=":material/error:")
        return
    state = run.state()
    result = run.read_result(DownloadResult)
    if state.state == "finished" and result is not None:
        _show_result(request, result)
        return
    finish_cancelled(run, request, state)
    say_of_partials(request.repo_id, state)
    with st.container(horizontal=True, vertical_alignment="center"):
        _way_out(run, request, state)
        st.page_link(MODELS, label=t(N_("All models and downloads")), icon=":material/deployed_code:")


def asked_of(run: RunStore) -> DownloadRequest | None:
    """What a download was asked for; None for what is none, or cannot be read."""
    record = run.glance_at_record()
    try:
        return DownloadRequest.read(record.config) if record and record.kind == "download" else None
    except ValueError:
        return None


def download_buttons(run: RunStore, request: DownloadRequest, state: RunState) -> None:
    """Those that make sense now: pause and cancel, or resume and give up."""
    if state.state in ("queued", "starting", "running"):
        _button(N_("Pause"), "pause", f"pause-{run.id}", lambda: request_stop(run))
    elif state.state in ("stopped", "failed", "lost"):
        _button(N_("Continue"), "play_arrow", f"resume-{run.id}", lambda: start_download(request))
    _way_out(run, request, state)


def _way_out(run: RunStore, request: DownloadRequest, state: RunState) -> None:
    """Cancel a download that goes on, or delete what one has left."""
    if state.state in ("queued", "starting", "running"):
        _button(N_("Cancel"), "close", f"cancel-{run.id}", lambda: _cancel(run))
    elif state.state in ("stopped", "failed", "lost") and held_bytes_of(request.repo_id):
        _button(N_("Discard the partial download"), "delete", f"discard-{run.id}", lambda: _discard(request.repo_id))


def say_of_partials(repo_id: str, state: RunState) -> None:
    """How much of a download that has ended early is kept for the next try."""
    held = held_bytes_of(repo_id) if state.has_ended else 0
    if held:
        st.caption(t(N_("{size} kept; they are not downloaded again."), size=size(held)))


def held_bytes_of(repo_id: str) -> int:
    """What is there of a repository that is not whole; it is kept for the next download."""
    try:
        cached = cached_repository(repo_id, installation())
    except HubError:  # nothing is there
        return 0
    return cached.partial_bytes if cached.commits else cached.size_bytes


def finish_cancelled(run: RunStore, request: DownloadRequest, state: RunState) -> None:
    """Delete what is there of a download that this session cancelled, once its process has ended."""
    given_up = st.session_state.get(session.DOWNLOADS_GIVEN_UP, set())
    if run.id in given_up and state.has_ended:
        given_up.discard(run.id)
        if state.state != "finished":
            _discard(request.repo_id)


def _show_result(request: DownloadRequest, result: DownloadResult) -> None:
    parts = [
        t(
            N_("{repo} at {commit}: {size}"),
            repo=result.repo_id,
            commit=result.commit[:12],
            size=size(result.size_bytes),
        )
    ]
    if result.downloaded_bytes < result.size_bytes:
        parts.append(
            t(N_("{size} downloaded this time; the rest was here already."), size=size(result.downloaded_bytes))
        )
    st.success(sentences(parts), icon=":material/check_circle:")
    folder = path_of(result.path)
    if folder is None or not folder.is_dir():
        st.warning(t(N_("It is no longer in the cache.")), icon=":material/delete:")
        query = {addresses.MODEL: request.repo_id}
        st.page_link(MODELS, label=t(N_("Download it again")), icon=":material/download:", query_params=query)
        return
    # A revision other than `main` is found by its folder alone.
    name = result.repo_id if request.revision == "main" else result.path
    with st.container(horizontal=True):
        if (folder / ADAPTER_CONFIG).is_file():
            query = {addresses.ADAPTER: result.path}
            st.page_link(VERIFY, label=t(N_("Verify")), icon=":material/verified:", query_params=query)
        else:
            use_model(name, "use_downloaded")
        st.page_link(MODELS, label=t(N_("All models and downloads")), icon=":material/deployed_code:")
    st.caption(t(N_("In {folder}"), folder=result.path))


def use_model(name: str, key: str) -> None:
    """The ways on from a model: a draft that trains it, its plan, and a chat with it."""
    if st.button(t(N_("New config with it")), icon=":material/tune:", key=key):
        draft = new_draft(installation().drafts, with_values("", Patch({"model_name": name})))
        st.switch_page(CONFIG, query_params={addresses.DRAFT: draft.id})
    st.page_link(PLAN, label=t(N_("Plan")), icon=":material/memory:", query_params={addresses.MODEL: name})
    st.page_link(TRY, label=t(N_("Try it")), icon=":material/forum:", query_params={addresses.MODEL: name})


def start_download(request: DownloadRequest) -> RunStore:
    """Begin a download, or go on with one that was paused."""
    return start_job(request, installation(), name=request.repo_id)


def _cancel(run: RunStore) -> None:
    st.session_state.setdefault(session.DOWNLOADS_GIVEN_UP, set()).add(run.id)
    request_stop(run)


def _discard(repo_id: str) -> None:
    if not held_bytes_of(repo_id):
        return
    freed = delete_partials(repo_id, installation())
    forget_models()
    forget_adapters()
    tell(t(N_("{size} freed."), size=size(freed)), ":material/delete:")


def _button(label: str, icon: str, key: str, act: Callable[[], object]) -> None:
    st.button(t(label), icon=f":material/{icon}:", key=key, on_click=safely(act))
