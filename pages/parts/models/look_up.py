"""Find a model on the hub: an id, what the hub has under it, whether it has room here, and the button that downloads it."""

from __future__ import annotations

import streamlit as st

from lora_backend.errors import FlightdeckError
from lora_backend.escaping import visible
from lora_backend.formats import size
from lora_backend.hub.hub_client import GATED, endpoint_of
from lora_backend.hub.repository import Repository, look_up
from lora_backend.hub.room import room_for
from lora_backend.i18n import N_, Message, Plural
from lora_backend.models.catalogue import catalogue
from lora_backend.preflight.weights_room import memory_here, room_words
from lora_backend.preflight.weights_room import room_for as room_for_weights
from lora_backend.runs.record.job_documents import DownloadRequest
from pages.parts.job.downloaded import start_download
from pages.parts.models import session
from pages.parts.shell import addresses
from pages.parts.shell.failing import safely
from pages.parts.shell.language import say, sentences, t, t_plain
from pages.parts.shell.markdown import Markdown, bold
from pages.parts.shell.services import installation
from pages.parts.widgets.frames import frame

MAIN = "main"
FIELD, REVISION_FIELD = "models-id", "models-revision"


def look_up_box() -> None:
    """The fields, which the address keeps; below them what was found."""
    repo_id = st.query_params.get(addresses.MODEL, "").strip()
    revision = st.query_params.get(addresses.REVISION, "").strip() or MAIN
    with st.container(border=True):
        _fields(repo_id, revision)
        if st.session_state.pop(session.LOOK_UP, False) and repo_id:
            with st.spinner(t(N_("Asking the hub for {model}"), model=repo_id)):
                st.session_state[session.LOOKED_UP] = (repo_id, revision, _asked(repo_id, revision))
        known_id, known_revision, found = st.session_state.get(session.LOOKED_UP, (None, None, None))
        if found is None or (known_id, known_revision) != (repo_id, revision):
            return
        if isinstance(found, Repository):
            _show_found(found)
        else:
            _show_refusal(found.message, repo_id)


def _fields(repo_id: str, revision: str) -> None:
    st.session_state[FIELD], st.session_state[REVISION_FIELD] = repo_id or None, revision
    st.selectbox(
        t(N_("Model on the hub")),
        list(dict.fromkeys([*([repo_id] if repo_id else []), *(model.name for model in catalogue())])),
        index=None,
        format_func=visible,
        key=FIELD,
        accept_new_options=True,
        placeholder=t(N_("owner/name, such as Qwen/Qwen2.5-0.5B-Instruct")),
        on_change=safely(_chose),
        help=t(
            N_(
                "Type any model id; the list has well-known ones. Nothing goes over the network until you press the button. `HF_ENDPOINT` sets another hub or a mirror."
            )
        ),
    )
    with st.container(horizontal=True, vertical_alignment="bottom"):
        with st.container(width=200):
            st.text_input(
                t(N_("Revision")),
                key=REVISION_FIELD,
                on_change=safely(_chose),
                help=t(N_("A branch, a tag or a commit. The download is pinned to the commit it points to now.")),
            )
        st.button(
            t(N_("Look it up")),
            icon=":material/search:",
            type="primary",
            key="look_up",
            disabled=not repo_id,
            on_click=safely(_ask),
        )


def _chose() -> None:
    repo_id = (st.session_state[FIELD] or "").strip()
    revision = (st.session_state[REVISION_FIELD] or "").strip()
    _keep(addresses.MODEL, repo_id)
    _keep(addresses.REVISION, "" if revision == MAIN else revision)


def _keep(name: str, value: str) -> None:
    if value:
        st.query_params[name] = value
    else:
        st.query_params.pop(name, None)


def _ask() -> None:
    st.session_state[session.LOOK_UP] = True


def _asked(repo_id: str, revision: str) -> Repository | FlightdeckError:
    try:
        return look_up(repo_id, revision)
    except FlightdeckError as error:
        return error.with_traceback(None)


def _show_found(found: Repository) -> None:
    """What it is, whether it has room, its files, and the button."""
    room = room_for(found, installation())
    kind = t(N_("Adapter")) if found.kind == "adapter" else t(N_("Model"))
    said = [t(N_("{kind} {model} at commit {commit}."), kind=kind, model=bold(found.repo_id), commit=found.commit[:12])]
    if found.refusal is None:
        said.append(_sizes(found, room.missing_bytes, room.free_bytes))
    st.markdown(sentences(said))
    if found.refusal is not None:
        _show_refusal(found.refusal, found.repo_id)
        return
    if found.kind == "model":
        weights = sum(file.size_bytes for file in found.files if file.name.endswith(".safetensors"))
        words = room_words(room_for_weights(weights, memory_here(installation())))
        st.caption(t(N_("Weights: {size}, {room}."), size=size(weights), room=words))
    if room.message is not None:
        st.error(say(room.message), icon=":material/hard_drive:")
    with st.container(horizontal=True, vertical_alignment="center"):
        st.button(
            t(N_("Download")) if room.missing_bytes else t(N_("Finish the download")),
            icon=":material/download:",
            type="primary",
            key="download",
            disabled=room.message is not None,
            on_click=safely(_download),
            args=(found,),
        )
        if found.gated:
            st.caption(t(N_("Gated: your token has access.")))
    with st.expander(t(Plural("{count} file", "{count} files"), count=len(found.files)), icon=":material/folder:"):
        st.dataframe(
            frame(
                [{t_plain(N_("File")): file.name, t_plain(N_("Size")): size(file.size_bytes)} for file in found.files]
            ),
            hide_index=True,
            height="content" if len(found.files) <= 14 else 388,
            placeholder="–",
        )
        st.caption(t(N_("Safetensors, tokenizer and configs only: no pickled weights, no code.")))


def _sizes(found: Repository, missing_bytes: int, free_bytes: int) -> Markdown:
    if not missing_bytes:
        return t(N_("{size}, already in the cache."), size=size(found.total_bytes))
    if missing_bytes < found.total_bytes:
        return t(
            N_("{missing} of {size} to download, {free} free on the disk."),
            missing=size(missing_bytes),
            size=size(found.total_bytes),
            free=size(free_bytes),
        )
    return t(N_("{size} to download, {free} free on the disk."), size=size(found.total_bytes), free=size(free_bytes))


def _show_refusal(message: Message, repo_id: str) -> None:
    """Why it is not downloaded; of a gated one what to do, with the pages where that is done."""
    st.error(say(message), icon=":material/lock:" if message.template == GATED else ":material/error:")
    if message.template != GATED:
        return
    endpoint = endpoint_of(None)
    with st.container(horizontal=True):
        st.link_button(t(N_("1. Accept the terms")), f"{endpoint}/{repo_id}", icon=":material/open_in_new:")
        st.link_button(t(N_("2. Get a token")), f"{endpoint}/settings/tokens", icon=":material/open_in_new:")
    st.caption(
        t(
            N_(
                "3. Run `hf auth login` on this machine, or set `HF_TOKEN` and restart the dashboard. Then look it up again. A token is never entered here, nor written to a run."
            )
        )
    )


def _download(found: Repository) -> None:
    start_download(DownloadRequest(repo_id=found.repo_id, revision=found.revision, commit=found.commit))
    st.session_state.pop(session.LOOKED_UP, None)
