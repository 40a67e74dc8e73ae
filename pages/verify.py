"""Verify: the rank of every LoRA layer of an adapter, on disk or loaded, against a config."""

from __future__ import annotations

from pages.parts.guard import guard

guard()

from pathlib import Path
from typing import Any

import streamlit as st

from lora_backend.config.files import decode_config
from lora_backend.errors import FlightdeckError, ModelError
from lora_backend.i18n import N_
from lora_backend.runs.folder import RunFolder, list_runs
from lora_backend.settings import is_within
from lora_backend.verification.folder import read_adapter_config
from lora_backend.verification.report import check_adapter_folder, verdict
from pages.parts import state_keys
from pages.parts.findings import show_finding
from pages.parts.header import page_header
from pages.parts.language import say, t
from pages.parts.loaded_check import loaded_check
from pages.parts.navigation import CONFIG, HOME
from pages.parts.run_list import run_title
from pages.parts.services import settings
from pages.parts.tables import rank_table


def pick() -> tuple[Path, dict[str, Any] | None] | None:
    """The adapter's folder, and the config to hold it against (None: its own)."""
    runs = {run.id: run for run in list_runs(settings().runs) if run.adapter.is_dir()}
    from_run, from_folder = st.columns(2)
    with from_run:
        chosen = st.selectbox(
            t(N_("A finished run")),
            list(runs),
            format_func=lambda run_id: f"{run_title(runs[run_id].read_run())} · {run_id}",
            index=list(runs).index(st.query_params["run"]) if st.query_params.get("run") in runs else None,
            placeholder=t(N_("Choose a run")) if runs else t(N_("No run has finished yet")),
            key="picked_run",
        )
    with from_folder:
        folder = st.text_input(
            t(N_("Or an adapter's folder")), st.query_params.get(state_keys.ADAPTER, ""), key="picked_folder",
            placeholder="adapters/pkg/1.0.0", help=t(N_("Below the workspace or a model root; a relative path counts from the workspace.")),
        )  # fmt: skip
    if folder:
        keep_in_address(adapter=folder)
        return bound(folder), uploaded_config()
    if chosen:
        keep_in_address(run=chosen)
        run: RunFolder = runs[chosen]
        return run.adapter, run.read_run()["config"]
    return None


def keep_in_address(run: str | None = None, adapter: str | None = None) -> None:
    for key, value in ((state_keys.RUN, run), (state_keys.ADAPTER, adapter)):
        if value:
            st.query_params[key] = value
        else:
            st.query_params.pop(key, None)


def bound(name: str) -> Path:
    path = settings().workspace / Path(name).expanduser()
    roots = (settings().workspace, *settings().model_roots)
    if not is_within(path, roots):
        raise ModelError(
            N_("The folder {path} lies outside the folders that the browser may use ({roots})."),
            path=name,
            roots=", ".join(map(str, roots)),
        )
    return path


def uploaded_config() -> dict[str, Any] | None:
    file = st.file_uploader(
        t(N_("The config it shall match; without one, its own adapter_config.json")), type=["yaml", "yml", "json", "toml"],
        max_upload_size=1, key="verify_config",
    )  # fmt: skip
    if file is None:
        return None
    document = decode_config(file.getvalue(), file.name)
    if not document.is_readable:
        show_finding(document.problems[0])
        st.stop()
    return document.values


def show(report: dict[str, Any]) -> None:
    boxes = {True: st.success, False: st.error, None: st.info}
    boxes[report["is_consistent"]](say(verdict(report)), icon=":material/verified:")
    if report.get("subfolders"):
        st.write(t(N_("These folders below it hold one: {names}"), names=", ".join(report["subfolders"])))
    if report["layers"]:
        rank_table(report["layers"])


page_header(
    t(N_("Verify")),
    t(N_("Does every LoRA layer carry the rank that was asked for? Read from the tensors, not from the config.")),
)
try:
    picked = pick()
    if picked is None:
        st.info(
            t(
                N_(
                    "Choose a finished run, or name the folder of an adapter. The files are read at once; loading base model and adapter is a second step."
                )
            ),
            icon=":material/info:",
        )
        with st.container(horizontal=True):
            st.page_link(HOME, label=t(N_("To the demo")), icon=":material/home:")
            st.page_link(CONFIG, label=t(N_("Open a config")), icon=":material/tune:")
    else:
        adapter, config = picked
        st.subheader(t(N_("On disk")), anchor=False)
        show(check_adapter_folder(adapter, config))
        st.subheader(t(N_("Loaded")), anchor=False)
        loaded_check(adapter, config or read_adapter_config(adapter) or {}, show)
except FlightdeckError as error:
    st.error(say(error.message), icon=":material/error:")
