"""A button that starts an evaluation of an adapter: on its run's own rows, or on a file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import streamlit as st
from streamlit.runtime.uploaded_file_manager import UploadedFile

from lora_backend.data.local_files import ENDINGS, local_files
from lora_backend.data.prompt_rows import keep_prompts
from lora_backend.data.unread_uploads import keep_upload
from lora_backend.errors import FlightdeckError
from lora_backend.escaping import visible
from lora_backend.i18n import N_
from lora_backend.launching.evaluation_request import AskedFor, evaluate_request
from lora_backend.launching.jobs import start_job
from lora_backend.launching.run_config import resolve_run
from lora_backend.runs.record.job_documents import EvaluateRequest
from lora_backend.runs.record.run_store import RunStore
from lora_backend.verification.adapter_folder import read_adapter_config
from lora_backend.verification.passport import start_in_passport
from pages.parts.shell import addresses
from pages.parts.shell.language import explain, t
from pages.parts.shell.navigation import RUNS
from pages.parts.shell.services import browser_policy, installation

FILES_LAST_S = 10
PREFIX = "evaluate-"


def evaluate_button(adapter: Path, of_run: RunStore | None) -> None:
    """A form behind a button. `adapter`: its folder, which this page may name; `of_run`: the run that it is of."""
    key = f"{PREFIX}{adapter}"
    with st.popover(t(N_("Evaluate")), icon=":material/analytics:"):
        config = _config_of(adapter, of_run)
        if _has_own(config):
            st.caption(t(N_("Leave everything empty to use the run's own evaluation rows and questions.")))
        asked = _asked(key)
        if st.button(t(N_("Start the evaluation")), icon=":material/play_arrow:", type="primary", key=f"{key}-start"):
            try:
                job = _start(adapter, of_run, config, asked)
            except (FlightdeckError, OSError) as error:
                st.error(explain(error), icon=":material/error:")
            else:
                st.switch_page(RUNS, query_params={addresses.RUN: job.id})


def _asked(key: str) -> Mapping[str, Any]:
    """The fields; a file that is uploaded wins over one that is chosen."""
    names = [file.name for file in _files(str(installation().workspace))]
    fields: dict[str, Any] = {}
    for name, label, about in (
        ("dataset", N_("Data set"), N_("The loss of base model and adapter is measured on its rows.")),
        ("questions", N_("Questions"), N_("JSON lines of `messages` and `expect`; right answers are counted.")),
    ):
        typed = st.session_state.get(f"{key}-{name}")
        fields[name] = st.selectbox(
            t(label),
            list(dict.fromkeys([*([typed] if typed else []), *names])),
            index=None,
            format_func=visible,
            key=f"{key}-{name}",
            accept_new_options=True,
            placeholder=t(N_("Choose a file, or type its path")),
            help=t(about),
        )
        if name == "dataset":
            endings = [ending.removeprefix(".") for ending in ENDINGS]
            fields["upload"] = st.file_uploader(t(N_("Or upload rows")), type=endings, key=f"{key}-upload")
    fields["prompts"] = st.text_area(
        t(N_("Prompts, one per line")),
        key=f"{key}-prompts",
        placeholder=t(N_("Base model and adapter answer each of them")),
    )
    fields["max_rows"] = st.number_input(
        t(N_("Maximum rows")), min_value=1, value=None, step=100, key=f"{key}-max", placeholder=t(N_("all"))
    )
    return fields


def _start(adapter: Path, of_run: RunStore | None, config: Mapping[str, Any], fields: Mapping[str, Any]) -> RunStore:
    policy, here = browser_policy(), installation()
    upload: UploadedFile | None = fields["upload"]
    dataset = policy.data(fields["dataset"].strip()) if fields["dataset"] else None
    if upload is not None:
        dataset = keep_upload(upload.getvalue(), upload.name, here.uploads)
    asked = AskedFor(
        dataset=dataset,
        questions=policy.data(fields["questions"].strip()) if fields["questions"] else None,
        prompts=keep_prompts(fields["prompts"], here.uploads) if fields["prompts"].strip() else None,
        max_rows=fields["max_rows"],
    )
    return start_job(_request(adapter, of_run, config, asked), here, name=_name_of(adapter, of_run))


def _request(adapter: Path, of_run: RunStore | None, config: Mapping[str, Any], asked: AskedFor) -> EvaluateRequest:
    policy, label = browser_policy(), _name_of(adapter, of_run)
    base = config.get("model_name") or (read_adapter_config(adapter) or {}).get("base_model_name_or_path")
    return evaluate_request(
        [(label, adapter)],
        None if not base else str(base),
        asked,
        of_run=None if of_run is None else of_run.id,
        config=config,
        find_base=policy.model,
    )


def _config_of(adapter: Path, of_run: RunStore | None) -> Mapping[str, Any]:
    """By which its run trained it, with bound paths; empty without one, or where a copied run names what it may not."""
    if of_run is None:
        return {}
    values = of_run.config_as_changed(upto=start_in_passport(adapter))
    try:
        return resolve_run(of_run, values, installation(), browser_policy()).values
    except FlightdeckError as error:
        st.caption(explain(error))
        return {}


def _has_own(config: Mapping[str, Any]) -> bool:
    return any(config.get(key) for key in ("eval_dataset", "val_size", "questions"))


def _name_of(adapter: Path, of_run: RunStore | None) -> str:
    """What to call the adapter: its run, with the checkpoint, or its folder."""
    if of_run is None:
        return adapter.name
    checkpoint = "" if adapter == of_run.adapter else f" {adapter.parent.name}"
    return (of_run.read_record().name or of_run.id) + checkpoint


@st.cache_data(show_spinner=False, ttl=FILES_LAST_S, max_entries=8)
def _files(workspace: str) -> list[Any]:
    return list(local_files(installation().data_roots))
