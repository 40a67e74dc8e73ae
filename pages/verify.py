"""Verify: the rank of every LoRA layer of an adapter, on disk or loaded, against a config; and its provenance."""

from __future__ import annotations

from pages.parts.shell.guard import guard

guard()

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import streamlit as st

from lora_backend.config.config_text import decode_config, read_config
from lora_backend.config.data_now import sha256_now
from lora_backend.errors import FlightdeckError, ModelError
from lora_backend.escaping import visible
from lora_backend.i18n import N_
from lora_backend.preflight.roots import allowed_adapter, allowed_config, may_read_data
from lora_backend.runs.record.run_store import RunStore, list_runs
from lora_backend.runs.record.unlinked import own_adapter
from lora_backend.symlinks import is_unlinked_folder
from lora_backend.verification.adapter_folder import is_pickled, read_adapter_config
from lora_backend.verification.asked_config import asked_values
from lora_backend.verification.passport import check_passport, start_in_passport
from lora_backend.verification.rank_documents import RankReport
from lora_backend.verification.rank_report import check_adapter_folder
from lora_backend.views.rank_view import ranks_beside
from lora_backend.views.run_view import run_title
from pages.parts.ranks.base import base_in_roots, fit_on_page
from pages.parts.ranks.health import read_health, show_health
from pages.parts.ranks.loaded import loaded_check
from pages.parts.ranks.passport import show_passport
from pages.parts.ranks.view import show_report
from pages.parts.shell import addresses
from pages.parts.shell.header import page_header
from pages.parts.shell.language import say, t
from pages.parts.shell.markdown import Markdown
from pages.parts.shell.navigation import CONFIG, HOME
from pages.parts.shell.services import installation, worker
from pages.parts.widgets.findings import show_finding
from pages.parts.widgets.tables import scrolling_table


@dataclass(frozen=True)
class Subject:
    """What is verified: an adapter, and the config to hold it against (None: its own)."""

    adapter: Path
    config: dict[str, Any] | None
    config_text: str | None = None


def pick(runs: dict[str, RunStore]) -> Subject | None:
    from_run, from_folder = st.columns(2)
    with from_run:
        asked = st.query_params.get(addresses.RUN)
        chosen = st.selectbox(
            t(N_("A finished run")),
            list(runs),
            format_func=lambda run_id: visible(name_of(runs[run_id])),
            index=list(runs).index(asked) if asked in runs else None,
            key="picked_run",
            placeholder=t(N_("Choose a run")) if runs else t(N_("No run has finished yet")),
        )
    with from_folder:
        folder = path_field(t(N_("Or an adapter's folder")), addresses.ADAPTER, "picked_folder", "adapters/pkg/1.0.0")
    if folder:
        keep_in_address(addresses.RUN, None)
        keep_in_address(addresses.ADAPTER, folder)
        return Subject(allowed_adapter(folder, installation()), asked_config())
    if chosen:
        keep_in_address(addresses.RUN, chosen)
        keep_in_address(addresses.ADAPTER, None)
        keep_in_address(addresses.ASKED_CONFIG, None)  # a run has its own
        run = runs[chosen]
        adapter = own_adapter(run.path)
        config = run.config_as_changed(upto=start_in_passport(adapter))
        return Subject(adapter, config, run.config_text())
    return None


def name_of(run: RunStore) -> str:
    return f"{run_title(run.read_record())} · {run.id}"


def keep_in_address(key: str, value: str | None) -> None:
    if value:
        st.query_params[key] = value
    else:
        st.query_params.pop(key, None)


def path_field(label: Markdown, name: str, key: str, example: str) -> str:
    """A path that can stand in the address under `name`."""
    return st.text_input(
        label,
        st.query_params.get(name, ""),
        key=key,
        placeholder=example,
        help=t(N_("Below the workspace or a model root; a relative path counts from the workspace.")),
    ).strip()


def asked_config() -> dict[str, Any] | None:
    """The config that the adapter is held against: uploaded, or from a path, which the address keeps."""
    upload, from_path = st.columns(2)
    file = upload.file_uploader(
        t(N_("Config to check against (default: its own adapter_config.json)")),
        type=["yaml", "yml", "json", "toml"],
        max_upload_size=1,
        key="verify_config",
    )
    with from_path:
        example = "runs/20260101-120000-ab12/config.yaml"
        path = path_field(t(N_("Or the path of that config")), addresses.ASKED_CONFIG, "verify_config_path", example)
    keep_in_address(addresses.ASKED_CONFIG, path)
    if file is not None:
        document = decode_config(file.getvalue(), file.name)
    elif path:
        document = read_config(allowed_config(path, installation()))
    else:
        return None
    if not document.is_readable:
        show_finding(document.problems[0])
        st.stop()
    return asked_values(document)


def verify(subject: Subject, runs: dict[str, RunStore]) -> None:
    ranks, passport, loaded, other = st.tabs(
        [t(N_("Ranks on disk")), t(N_("Provenance")), t(N_("Loaded in memory")), t(N_("Compare adapters"))]
    )
    own = read_adapter_config(subject.adapter) or {}
    with ranks:
        report = check_on_disk(subject.adapter, subject.config)
        can_read = not is_pickled(subject.adapter)
        health = show_report(report, "disk", (lambda: read_health(subject.adapter)) if can_read else None)
        if health:
            show_health(health, report, subject.config or {}, subject.config_text)
    with passport:
        show_passport(check_passport(subject.adapter, subject.config, base_config(subject, own), data_sha256(subject)))
    with loaded:
        loaded_check(subject.adapter, subject.config or own, _show_loaded)
    with other:
        beside(subject, report, runs)


def _show_loaded(report: RankReport) -> None:
    show_report(report, "loaded")


def check_on_disk(adapter: Path, config: dict[str, Any] | None) -> RankReport:
    """From the headers; a pickled file is opened by the torch process, which runs none of what it holds."""
    if not is_pickled(adapter):
        return check_adapter_folder(adapter, config, find_base=base_in_roots, ask_tree=fit_on_page())
    with st.spinner(t(N_("Reading the adapter's tensors"))):
        return RankReport.read(worker().ask("check_folder_ranks", {"adapter": str(adapter), "config": config}))


def base_config(subject: Subject, own: dict[str, Any]) -> Path | None:
    name = (subject.config or {}).get("model_name") or own.get("base_model_name_or_path")
    try:
        base = base_in_roots(str(name)) if name else None
    except ModelError:  # another machine's path, or outside the roots: the passport says that it cannot be told
        return None
    return base if base is None or base.is_file() else base / "config.json"


def data_sha256(subject: Subject) -> str | None:
    return sha256_now(subject.config or {}, lambda path: may_read_data(path, installation()))


def beside(subject: Subject, report: RankReport, runs: dict[str, RunStore]) -> None:
    others = [run_id for run_id, run in runs.items() if run.adapter != subject.adapter]
    from_run, from_folder = st.columns(2)
    with from_folder:
        label = t(N_("Or another adapter's folder"))
        folder = path_field(label, addresses.OTHER_ADAPTER, "other_folder", "adapters/pkg/2.0.0")
    chosen = from_run.selectbox(
        t(N_("The other adapter")),
        others,
        format_func=lambda run_id: visible(name_of(runs[run_id])),
        key="other_run",
        placeholder=t(N_("There is no other finished run to compare with.")),
        disabled=bool(folder),
    )
    keep_in_address(addresses.OTHER_ADAPTER, folder)
    if folder:
        other = allowed_adapter(folder, installation())
    elif chosen:
        other = own_adapter(runs[chosen].path)
    else:
        return
    scrolling_table(ranks_beside(report.actual_r_values, check_on_disk(other, None).actual_r_values))


page_header(
    t(N_("Verify")),
    t(
        N_(
            "Check that an adapter has the expected ranks and fits its base model. Read from the tensors, not from the config."
        )
    ),
)
try:
    finished = {run.id: run for run in list_runs(installation().runs) if is_unlinked_folder(run.adapter)}
    picked = pick(finished)
    if picked is None:
        st.info(
            t(
                N_(
                    "Choose a finished run, or enter the folder of an adapter. Its files are read right away; loading base model and adapter is a second step."
                )
            ),
            icon=":material/info:",
        )
        with st.container(horizontal=True):
            st.page_link(HOME, label=t(N_("To the demo")), icon=":material/home:")
            st.page_link(CONFIG, label=t(N_("Open a config")), icon=":material/tune:")
    else:
        verify(picked, finished)
except FlightdeckError as error:
    st.error(say(error.message), icon=":material/error:")
