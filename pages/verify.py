"""Verify: the rank of every LoRA layer of an adapter, on disk or loaded, against a config; and its provenance."""

from __future__ import annotations

from pages.parts.shell.guard import guard

guard()

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import streamlit as st

from lora_backend.config.config_text import ConfigDocument, decode_config, read_config
from lora_backend.config.data_now import sha256_now
from lora_backend.errors import FlightdeckError, ModelError
from lora_backend.escaping import visible
from lora_backend.i18n import N_
from lora_backend.models.adapters_here import AdapterHere
from lora_backend.preflight.roots import allowed_adapter, allowed_config, may_read_data
from lora_backend.runs.record.run_store import RunStore, list_runs
from lora_backend.runs.record.unlinked import own_adapter, refuse_links_in_its_run
from lora_backend.symlinks import is_unlinked_folder
from lora_backend.verification.adapter_folder import is_pickled, read_adapter_config
from lora_backend.verification.asked_config import asked_values
from lora_backend.verification.passport import Part, check_passport, start_in_passport
from lora_backend.verification.rank_documents import RankReport
from lora_backend.verification.rank_report import check_adapter_folder
from lora_backend.views.rank_view import ranks_beside
from lora_backend.views.verify_view import answer
from pages.parts.ranks import session
from pages.parts.ranks.answer import show_answer
from pages.parts.ranks.base import base_in_roots, fit_on_page
from pages.parts.ranks.health import read_health, show_health
from pages.parts.ranks.loaded import loaded_check
from pages.parts.ranks.passport import show_passport
from pages.parts.ranks.scrubber import scrubber
from pages.parts.ranks.view import show_report
from pages.parts.shell import addresses
from pages.parts.shell.header import browser_tab, page_header
from pages.parts.shell.language import say, t, t_plain
from pages.parts.shell.markdown import Markdown
from pages.parts.shell.services import installation, worker
from pages.parts.widgets.adapter_picker import one_adapter
from pages.parts.widgets.adapter_upload_field import adapter_upload
from pages.parts.widgets.adapters_listed import listed_adapters, named_adapter
from pages.parts.widgets.empty_state import demo_or_config, empty_state
from pages.parts.widgets.findings import show_finding
from pages.parts.widgets.tables import scrolling_table


@dataclass(frozen=True)
class Subject:
    """What is verified: an adapter, and the config to hold it against (None: its own)."""

    adapter: Path
    config: dict[str, Any] | None
    config_text: str | None = None
    run: RunStore | None = None
    """Whose adapter it is, where it was picked as a run's."""


def pick(runs: dict[str, RunStore]) -> Subject | None:
    """The adapter that the address names: a finished run's, or any folder's."""
    run_id, folder = st.query_params.get(addresses.RUN), st.query_params.get(addresses.ADAPTER, "").strip()
    current: AdapterHere | str | None = named_adapter(folder, listed_adapters()) or folder or None
    if current is None and run_id in runs:
        current = f"run:{run_id}"
    is_chosen = bool(folder) or run_id in runs
    with st.container(horizontal=is_chosen, vertical_alignment="bottom" if is_chosen else "top", key="verify_subject"):
        with st.container(width=640 if is_chosen else "stretch"):  # on a phone it has a row of its own
            one_adapter(
                t(N_("Adapter")),
                "picked",
                current,
                choose,
                t(
                    N_(
                        "Adapters of runs and their checkpoints, uploaded and published ones, and others below the workspace or a model root. Relative paths start at the workspace."
                    )
                ),
            )
        adapter_upload("verify_upload", lambda stored: choose(str(stored.folder)), is_open=not is_chosen)
        document = None if run_id in runs and not folder else asked_config()
    if folder:
        return Subject(allowed_adapter(folder, installation()), values_of(document))
    if run_id in runs:
        keep_in_address(addresses.ASKED_CONFIG, None)  # a run has its own
        run = runs[run_id]
        adapter = own_adapter(run.path)
        config = run.config_as_changed(upto=start_in_passport(adapter))
        return Subject(adapter, config, run.config_text(), run)
    return None


def choose(word: str) -> None:
    """Verify another adapter: a run's by its id, any other by its folder."""
    run_id = word.removeprefix("run:") if word.startswith("run:") and "/" not in word else None
    keep_in_address(addresses.RUN, run_id)
    keep_in_address(addresses.ADAPTER, "" if run_id else folder_of(word))


def choose_other(word: str) -> None:
    """Compare with another adapter."""
    keep_in_address(addresses.OTHER_ADAPTER, folder_of(word))


def folder_of(word: str) -> str:
    """The folder that a choice means, as an address has it: counted from the workspace where it lies in it."""
    listed = listed_adapters()
    if word not in listed:
        return word
    folder, workspace = listed[word].folder, installation().workspace
    return str(folder.relative_to(workspace)) if folder.is_relative_to(workspace) else str(folder)


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
        help=t(N_("Below the workspace or a model root; relative paths start at the workspace.")),
    ).strip()


def asked_config() -> ConfigDocument | None:
    """The config that the adapter is held against: uploaded, or from a path, which the address keeps."""
    asked = st.query_params.get(addresses.ASKED_CONFIG, "")
    name = st.session_state.get(session.ASKED_NAME) or Path(asked).name
    label = t(N_("Against {name}"), name=name) if name else t(N_("Check against a config"))
    with st.popover(label, icon=":material/rule:"):
        file = st.file_uploader(
            t(N_("Config to check against (default: its own adapter_config.json)")),
            type=["yaml", "yml", "json", "toml"],
            max_upload_size=1,
            key="verify_config",
        )
        example = "runs/20260101-120000-ab12/config.yaml"
        path = path_field(t(N_("Or the path of that config")), addresses.ASKED_CONFIG, "verify_config_path", example)
    keep_in_address(addresses.ASKED_CONFIG, path)
    if (file.name if file is not None else None) != st.session_state.get(session.ASKED_NAME):
        # The button above was drawn before, and says another name.
        st.session_state[session.ASKED_NAME] = file.name if file is not None else None
        st.rerun()
    if file is not None:
        return decode_config(file.getvalue(), file.name)
    return read_config(allowed_config(path, installation())) if path else None


def values_of(document: ConfigDocument | None) -> dict[str, Any] | None:
    """The keys of a config that is readable; of another its first problem is shown, and nothing else."""
    if document is None:
        return None
    if not document.is_readable:
        show_finding(document.problems[0])
        st.stop()
    return asked_values(document)


def verify(subject: Subject) -> None:
    own = read_adapter_config(subject.adapter) or {}
    place = st.container()
    report = check_on_disk(subject.adapter, subject.config)
    parts = provenance(subject, own)
    browser_tab(f"{t_plain(N_('Verify'))} · {visible(shown_name(subject))}")
    with place:
        show_answer(answer(report, parts))
    names = [N_("Ranks on disk"), N_("Provenance"), N_("Loaded in memory"), N_("Compare adapters"), N_("Truncate")]
    tabs = st.tabs([t(name) for name in names], on_change="rerun", key="verify_tabs")
    ranks, passport, loaded, other, truncate = tabs
    with ranks:
        can_read = not is_pickled(subject.adapter)
        ask = (lambda: read_health(subject.adapter)) if can_read else None
        health = show_report(report, "disk", ask, is_answered=True)
        if health:
            show_health(health, report, subject.config or {}, subject.config_text)
    with passport:
        show_passport(parts)
    with loaded:
        loaded_check(subject.adapter, subject.config or own, _show_loaded)
    with other:
        beside(report)
    if truncate.open:  # its singular values take torch
        with truncate:
            scrubber(subject.adapter, subject.config, subject.run)


def shown_name(subject: Subject) -> str:
    """What the browser's tab calls it: a run by its name, any other by its folder's."""
    run = subject.run
    return subject.adapter.name if run is None else run.read_record().name or run.id


def provenance(subject: Subject, own: dict[str, Any]) -> list[Part]:
    """Part by part; a record that is damaged is told as such, and the ranks can be read all the same."""
    base, data = base_config(subject, own), data_sha256(subject)
    try:
        return check_passport(subject.adapter, subject.config, base, data)
    except ModelError as error:
        return [Part("passport", "unknown", error.message)]


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


def beside(report: RankReport) -> None:
    folder = st.query_params.get(addresses.OTHER_ADAPTER, "").strip()
    current = named_adapter(folder, listed_adapters()) or folder or None
    one_adapter(t(N_("The other adapter")), "other", current, choose_other)
    if folder:
        other = allowed_adapter(folder, installation())
        refuse_links_in_its_run(other)
        scrolling_table(ranks_beside(report.actual_r_values, check_on_disk(other, None).actual_r_values))


page_header(
    t(N_("Verify")),
    t(
        N_(
            "Check that an adapter has the expected ranks and fits its base model. Read from the tensors, not from the config."
        )
    ),
    docs="adapters",
)
try:
    finished = {run.id: run for run in list_runs(installation().runs) if is_unlinked_folder(run.adapter)}
    picked = pick(finished)
    if picked is None:
        sentence = t(
            N_(
                "Choose an adapter, upload one, or type its folder. Its files are read right away; loading the base model and the adapter is a separate step."
            )
        )
        empty_state("layers", sentence, demo_or_config)
    else:
        verify(picked)
except FlightdeckError as error:
    st.error(say(error.message), icon=":material/error:")
