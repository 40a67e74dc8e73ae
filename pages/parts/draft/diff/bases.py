"""What a draft can be compared with: the defaults, a preset, a run, another file, or a training script's defaults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import streamlit as st

from lora_backend.config.config_text import MAX_CONFIG_BYTES, decode_config
from lora_backend.config.drafts import Draft
from lora_backend.config.presets import PRESETS, preset_base
from lora_backend.config.schema import default_config
from lora_backend.config.script_options import Remark
from lora_backend.config.scripts import MAX_SCRIPT_BYTES, script_defaults
from lora_backend.errors import ConfigError, FlightdeckError
from lora_backend.escaping import visible
from lora_backend.i18n import N_
from lora_backend.runs.record.run_store import RUN_ID, RunStore, list_runs
from lora_backend.views.run_view import run_title
from pages.parts.draft.foreign_import import safe_name, values_of
from pages.parts.shell import addresses
from pages.parts.shell.failing import safely
from pages.parts.shell.language import explain, t
from pages.parts.shell.services import installation

DEFAULTS = "defaults"
MAX_RUNS = 30


@dataclass(frozen=True)
class Base:
    """The other side of a diff."""

    id: str
    """As it stands in the address."""
    name: str
    values: Mapping[str, Any]
    remarks: tuple[Remark, ...] = ()
    config: str | None = None
    """The file from which a command can start; None where it is none of ours."""

    @property
    def can_be_shared(self) -> bool:
        """Whether the address means the same without this draft."""
        return not self.id.startswith("file:")


def choose_base(draft: Draft) -> Base:
    """A list of all bases, and a place for a file; what the address names is chosen."""
    wanted = st.query_params.get(addresses.BASE, DEFAULTS)
    ids = [DEFAULTS, *(f"preset:{name}" for name in PRESETS), *_files(draft), *_runs()]
    try:
        base = _base(draft, wanted)
    except (FlightdeckError, OSError) as error:
        st.warning(explain(error), icon=":material/error:")
        base = _base(draft, DEFAULTS)
    if base.id not in ids:
        ids.append(base.id)
    key = f"base-{draft.id}-{base.id}"

    def chosen() -> None:
        _show(st.session_state[key])

    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.selectbox(
            t(N_("Compared with")),
            ids,
            ids.index(base.id),
            format_func=lambda item: visible(_name(draft, item)),
            key=key,
            on_change=safely(chosen),
        )
        with st.popover(t(N_("A file or a script")), icon=":material/upload_file:"):
            _upload(draft)
    return base


def _upload(draft: Draft) -> None:
    st.caption(
        t(
            N_(
                "A Flightdeck config, a config of another tool, or a training script; its defaults are read without running it."
            )
        )
    )
    file = st.file_uploader(
        t(N_("Config or script")),
        type=["yaml", "yml", "json", "toml", "py"],
        max_upload_size=1,
        key=f"base_file-{draft.id}",
    )
    text = st.text_area(t(N_("Or the source of a script")), height=110, key=f"base_text-{draft.id}")
    if st.button(t(N_("Compare with it")), key="use_base", disabled=file is None and not text.strip()):
        name, data = (
            (file.name, file.getvalue()) if file is not None else ("script.py", text.encode("utf-8", "replace"))
        )
        try:
            base_id = keep_base(draft, name, data)
        except (FlightdeckError, OSError) as error:
            st.error(explain(error), icon=":material/error:")
            return
        _show(base_id)
        st.rerun()


def keep_base(draft: Draft, name: str, data: bytes) -> str:
    """Keep a file with the draft, if it can be compared with. Returns its id. Raises `ConfigError`."""
    is_script = Path(name).suffix.lower() == ".py"
    if is_script:
        if len(data) > MAX_SCRIPT_BYTES:
            raise ConfigError(
                N_("{file} has {size} bytes; at most {limit} are read."),
                file=name,
                size=len(data),
                limit=MAX_SCRIPT_BYTES,
            )
        text = data.decode("utf-8-sig", "replace")
        script_defaults(text)
    else:
        document = decode_config(data[: MAX_CONFIG_BYTES + 1], name)
        if not document.is_readable:
            raise ConfigError(N_("{file} cannot be read: {reason}"), file=name, reason=document.problems[0].message)
        text = document.text
        values_of(text, name)
    draft.keep_beside("bases", safe_name(name), text)
    return f"file:{safe_name(name)}"


def _base(draft: Draft, base_id: str) -> Base:
    """Raises `ConfigError` or `RunError` where there is no such base (any more)."""
    kind, _, name = base_id.partition(":")
    if kind == "preset" and name in PRESETS:
        return Base(base_id, t(PRESETS[name].title), preset_base(name))
    if kind == "run" and RUN_ID.fullmatch(name):
        return _run_base(base_id, RunStore(installation().runs / name))
    if kind == "file" and name == safe_name(name) and (text := draft.base(name)) is not None:
        if Path(name).suffix == ".py":
            script = script_defaults(text)
            return Base(base_id, name, script.values, script.remarks)
        return Base(base_id, name, values_of(text, name))
    if base_id == DEFAULTS:
        return Base(DEFAULTS, t(N_("Default")), default_config())
    raise ConfigError(N_("The comparison in this address was not found, so the defaults are shown instead."))


def _run_base(base_id: str, run: RunStore) -> Base:
    record, text = run.read_record(), run.config_text()
    values = record.config if text is None else values_of(text, run.config_yaml.name)
    return Base(base_id, run_title(record), values, config=None if text is None else str(run.config_yaml))


def _files(draft: Draft) -> list[str]:
    return [f"file:{path.name}" for path in sorted((draft.path / "bases").glob("[!.]*"))]


def _runs() -> list[str]:
    return [f"run:{run.id}" for run in list_runs(installation().runs)[:MAX_RUNS]]


def _name(draft: Draft, base_id: str) -> str:
    kind, _, name = base_id.partition(":")
    if kind == "preset":
        return t(N_("Preset: {name}"), name=t(PRESETS[name].title))
    if kind == "run":
        return t(N_("Run: {name}"), name=name)
    if kind == "file":
        return (t(N_("Script: {name}"), name=name)) if name.endswith(".py") else t(N_("File: {name}"), name=name)
    return t(N_("The defaults of train_lora"))


def _show(base_id: str) -> None:
    if base_id == DEFAULTS:
        st.query_params.pop(addresses.BASE, None)
    else:
        st.query_params[addresses.BASE] = base_id
