"""How a draft begins: blank, from a file, from pasted text, from a preset, or where it was left."""

from __future__ import annotations

from typing import Literal

import streamlit as st

from lora_backend.config.config_text import MAX_CONFIG_BYTES, ConfigDocument, decode_config, parse_config
from lora_backend.config.config_writing import dump_yaml
from lora_backend.config.drafts import new_draft
from lora_backend.config.foreign.import_file import import_document
from lora_backend.config.foreign.outcomes import ImportResult
from lora_backend.config.foreign.tools import is_foreign
from lora_backend.config.presets import PRESETS, Preset
from lora_backend.demo.demo_run import demo_text
from lora_backend.errors import ConfigError
from lora_backend.i18n import N_
from pages.parts.draft import session
from pages.parts.draft.drafts import recent_drafts
from pages.parts.draft.foreign_import import keep_source, show_import
from pages.parts.shell import addresses
from pages.parts.shell.language import say, t
from pages.parts.shell.navigation import CONFIG
from pages.parts.shell.services import installation
from pages.parts.widgets.findings import show_finding

BLANK = """\
model_name:
dataset:
r: 16
alpha: 32
target_modules: all-linear
num_epochs: 3
learning_rate: 1e-4
batch_size: 4
"""
PRESET_COLUMNS = 3


def choose_start() -> None:
    """Show the ways to begin; each ends in a new draft with an address of its own."""
    fresh, upload, paste = st.columns(3)  # on a phone one below the other, so the primary action comes first
    with upload, st.container(border=True, height="stretch"):
        st.header(t(N_("Upload")), anchor=False)
        file = st.file_uploader(
            t(N_("A YAML, JSON or TOML file: a Flightdeck config, or one of another tool")),
            type=["yaml", "yml", "json", "toml"],
            max_upload_size=1,
            key="config_file",
        )
    with paste, st.container(border=True, height="stretch"), st.form("paste", border=False):
        st.header(t(N_("Paste")), anchor=False)
        text = st.text_area(t(N_("YAML text")), height=120, key="pasted")
        pasted = st.form_submit_button(t(N_("Open as a draft")))
    kept = st.session_state.get(session.IMPORT_SOURCE)
    with fresh, st.container(border=True, height="stretch"):
        st.header(t(N_("Start new")), anchor=False)
        st.write(t(N_("Choose a base model and your data; the common keys are filled in.")))
        is_import = pasted or file is not None or kept is not None  # then its preview has the primary button
        kind: Literal["primary", "secondary"] = "secondary" if is_import else "primary"
        if st.button(t(N_("New config")), type=kind, icon=":material/add:", key="blank"):
            _begin(BLANK)
    if pasted and text.strip():
        st.session_state[session.IMPORT_SOURCE] = (
            "pasted.yaml",
            text,
        )  # the form's button is up again in the next run
        _begin_with_document(parse_config(text), "pasted.yaml")
    elif file is not None:
        _begin_with_file(file.getvalue(), file.name)
    elif kept is not None:
        _begin_with_document(parse_config(kept[1]), kept[0])
    recent_drafts()
    _presets()


def _presets() -> None:
    st.header(t(N_("Presets")), anchor=False)
    presets = list(PRESETS.values())
    for start in range(0, len(presets), PRESET_COLUMNS):
        for column, preset in zip(st.columns(PRESET_COLUMNS), presets[start : start + PRESET_COLUMNS], strict=False):
            with column, st.container(border=True, height="stretch", vertical_alignment="distribute"):
                with st.container(gap="xsmall"):
                    st.markdown(f"**{t(preset.title)}**")
                    st.caption(t(preset.purpose))
                if st.button(t(N_("Start from this")), key=f"preset-{preset.id}", icon=":material/arrow_forward:"):
                    _begin(_preset_text(preset))


def _preset_text(preset: Preset) -> str:
    if preset.id == "demo":
        return demo_text(installation())
    return f"# {t(preset.title)}: {t(preset.purpose)}\nmodel_name:\ndataset:\n{dump_yaml(preset.values)}"


def _begin_with_file(data: bytes, name: str) -> None:
    document = decode_config(data, name)
    if len(data) > MAX_CONFIG_BYTES or (not document.is_readable and not document.text):
        show_finding(document.problems[0])  # nothing that an editor could show
    else:
        _begin_with_document(document, name)


def _begin_with_document(document: ConfigDocument, name: str) -> None:
    if is_foreign(document):
        _preview(document, name)
    else:
        _begin(_as_it_is(document))


def _as_it_is(document: ConfigDocument) -> str:
    """Its text as YAML; JSON that says a key twice is YAML as it stands, and keeps both places."""
    if document.format == "yaml" or document.problems:
        return document.text
    return dump_yaml(document.values)


def _preview(document: ConfigDocument, name: str) -> None:
    """Every key of the other tool's file, before a draft is made of it."""
    with st.container(border=True):
        result: ImportResult | None
        try:
            result = import_document(document)
        except ConfigError as error:
            st.error(say(error.message), icon=":material/error:")
            result = None
        else:
            st.header(t(N_("{tool} config detected"), tool=result.title), anchor=False)
        with st.container(horizontal=True):
            converted = result is not None and st.button(
                t(N_("Convert and edit")), type="primary", icon=":material/input:", key="open_import"
            )
            as_it_is = st.button(
                t(N_("Open as it is")),
                icon=":material/edit_note:",
                key="open_as_is",
                help=t(N_("Nothing is converted yet; the editor offers it too.")),
            )
        if result is not None:
            show_import(result)
    if as_it_is:
        _begin(_as_it_is(document))
    elif converted and result is not None:
        _begin(f"# {result.title}: {name}\n{result.text}", (name, document.text))


def _begin(text: str, source: tuple[str, str] | None = None) -> None:
    draft = new_draft(installation().drafts, text)
    if source is not None:
        keep_source(draft, *source)
    st.session_state.pop(session.IMPORT_SOURCE, None)
    st.switch_page(CONFIG, query_params={addresses.DRAFT: draft.id})
