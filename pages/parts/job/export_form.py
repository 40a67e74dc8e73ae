"""Buttons that take an adapter along: as a zip, merged, as GGUF, its card, or up to a hub; each a job of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import streamlit as st

from lora_backend.errors import FlightdeckError
from lora_backend.formats import size
from lora_backend.hub.hub_client import hub_token
from lora_backend.i18n import N_
from lora_backend.launching.jobs import start_job
from lora_backend.preflight.export_place import FILE_ENDINGS, export_place, refuse_what_stands
from lora_backend.preflight.export_room import base_named_by, export_bytes, export_room
from lora_backend.runs.record.job_documents import ExportDtype, ExportRequest, Target
from lora_backend.runs.record.run_store import RunStore
from lora_backend.views.export_view import TARGETS, goes_up, where_it_goes
from lora_backend.views.run_view import run_title
from pages.parts.shell import addresses
from pages.parts.shell.language import explain, say, t
from pages.parts.shell.markdown import Markdown, escape
from pages.parts.shell.navigation import RUNS
from pages.parts.shell.services import browser_policy, installation
from pages.parts.widgets.tables import scrolling_table

ICONS: dict[Target, str] = {
    "adapter": ":material/folder_zip:",
    "merged": ":material/merge:",
    "gguf": ":material/deployed_code:",
    "card": ":material/description:",
    "hub": ":material/cloud_upload:",
}
HINTS: dict[Target, str] = {
    "adapter": N_("The adapter with its config, its card and what it was trained on, as one .zip file."),
    "merged": N_("The base model with the adapter in its weights, in a folder that needs no PEFT."),
    "gguf": N_("The adapter for llama.cpp and Ollama, beside the base model as GGUF."),
    "card": N_("README.md with the hub's header: settings, data, curve, memory, versions, how to load it."),
    "hub": N_("Upload the adapter or the merged model to your account."),
}
DTYPES: dict[ExportDtype | None, str] = {None: N_("unchanged"), "bf16": "bf16", "fp16": "fp16", "fp32": "fp32"}


def export_buttons(adapter: Path, of_run: RunStore | None) -> None:
    """A button for each target. `adapter`: a folder that the browser may name; `of_run`: the run that trained it."""
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption(t(N_("Export as")), width="content")
        for target, title in TARGETS.items():
            label = N_("Adapter .zip") if target == "adapter" else title
            with st.popover(t(label), icon=ICONS[target], key=f"export_{target}"):
                st.caption(t(HINTS[target]))
                (_push_form if target == "hub" else _form)(target, adapter, of_run)


def _form(target: Target, adapter: Path, of_run: RunStore | None) -> None:
    """What there is to choose, what it takes, and the button."""
    request = _request(target, adapter, of_run)
    if target != "card":
        request = request.but(dtype=_dtype(target))
    if target == "adapter" and st.checkbox(t(N_("Truncate the ranks")), key="export_truncate"):
        rank = st.number_input(t(N_("Rank of every layer, at most")), min_value=1, value=8, key="export_rank")
        request = request.but(rank=int(rank))
    where = st.text_input(t(N_("Save to (optional)")), key=f"export_place_{target}", help=t(N_("A path below {roots}. Leave empty to keep it in the export's own folder."), roots=", ".join(map(str, installation().output_roots))))  # fmt: skip
    if where.strip():
        request = request.but(output=str(installation().workspace / where.strip()))
        request = request.but(overwrite=st.checkbox(t(N_("Replace an existing export")), key=f"export_overwrite_{target}"))  # fmt: skip
    refusal = _what_it_takes(request)
    if st.button(
        t(N_("Export")), type="primary", icon=ICONS[target], key=f"start_export_{target}", disabled=refusal is not None,
    ):  # fmt: skip
        _start(request)


def _push_form(target: Target, adapter: Path, of_run: RunStore | None) -> None:
    """Where to, what goes up, for whom; asked once more before it does."""
    if not hub_token():
        st.warning(t(N_("No hub token is set. Run `hf auth login`, or set HF_TOKEN, then restart the dashboard.")), icon=":material/key_off:")  # fmt: skip
    what: Literal["adapter", "merged"] = "merged" if st.checkbox(t(N_("Merged into its base model")), key="push_merged") else "adapter"  # fmt: skip
    repo = st.text_input(t(N_("Repository")), placeholder="owner/name", key="push_repo").strip()
    is_public = st.checkbox(t(N_("Public: anyone can read it")), key="push_public")
    request = _request(target, adapter, of_run).but(what=what, repo_id=repo or None, private=not is_public)
    refusal = _what_it_takes(request)
    if refusal is None:
        found = goes_up(request, export_bytes(request, is_file=False) if what == "merged" else None)
        scrolling_table(found.table)
        st.caption(say(where_it_goes(request)))
    sure = N_("Yes, upload these files for anyone to read.") if is_public else N_("Yes, upload these files.")
    is_sure = st.checkbox(t(sure), key="push_sure_public" if is_public else "push_sure")
    if st.button(
        t(N_("Push")), type="primary", icon=ICONS[target], key="start_export_hub",
        disabled=not (is_sure and repo and hub_token()) or refusal is not None,
    ):  # fmt: skip
        _start(request)


def _request(target: Target, adapter: Path, of_run: RunStore | None) -> ExportRequest:
    return ExportRequest(adapter=str(adapter.resolve()), to=target, of_run=of_run.id if of_run else None, bound=True)


def _dtype(target: Target) -> ExportDtype | None:
    return st.selectbox(t(N_("Type of the weights")), list(DTYPES), format_func=_dtype_word, key=f"export_dtype_{target}")  # fmt: skip


def _dtype_word(dtype: ExportDtype | None) -> Markdown:
    return escape(dtype) if dtype else t(DTYPES[None])


def _what_it_takes(request: ExportRequest) -> Markdown | None:
    """Say what it takes on the disk; why it cannot be started, where it cannot."""
    try:
        place = export_place(request, installation().runs / "output", "export", installation())
        refuse_what_stands(place, may_replace=request.overwrite)
        if request.to in ("merged", "gguf") or request.what == "merged":
            browser_policy().model(str(base_named_by(request, Path(request.adapter))))
        is_file = place.is_file or (request.output is None and request.to in FILE_ENDINGS)
        room = export_room(request, place.path, is_file)
        st.caption(t(N_("Needs up to {needed} of disk space; {free} free."), needed=size(room.needed_bytes), free=size(room.free_bytes)))  # fmt: skip
        room.refuse_too_little()
    except (FlightdeckError, OSError) as error:
        st.error(explain(error), icon=":material/error:")
        return explain(error)
    return None


def _start(request: ExportRequest) -> None:
    """Start the job and go to its page."""
    run = None if request.of_run is None else RunStore(installation().runs / request.of_run)
    name = Path(request.adapter).name if run is None else run_title(run.read_record())
    try:
        job = start_job(request, installation(), name=f"{name} → {request.to}")
    except (FlightdeckError, OSError) as error:
        st.error(explain(error), icon=":material/error:")
    else:
        st.switch_page(RUNS, query_params={addresses.RUN: job.id})
