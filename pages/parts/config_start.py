"""How a draft begins: blank, from a file, from pasted text, or as the demo's config."""

from __future__ import annotations

import streamlit as st

from lora_backend.config.drafts import new_draft
from lora_backend.config.files import MAX_CONFIG_BYTES, decode_config, dump_yaml
from lora_backend.demo.run import demo_text
from lora_backend.i18n import N_
from pages.parts import state_keys
from pages.parts.findings import show_finding
from pages.parts.language import t
from pages.parts.navigation import CONFIG
from pages.parts.services import settings

BLANK = """\
model_name:          # {model}
dataset:             # {dataset}
r: 16
alpha: 32
target_modules: all-linear
num_epochs: 3
learning_rate: 1e-4
batch_size: 4
"""


def choose_start() -> None:
    """Show the ways to begin; each ends in a new draft with an address of its own."""
    upload, paste, fresh = st.columns(3)
    with upload, st.container(border=True, height="stretch"):
        st.subheader(t(N_("Upload")), anchor=False)
        file = st.file_uploader(
            t(N_("A YAML, JSON or TOML file")),
            type=["yaml", "yml", "json", "toml"],
            max_upload_size=1,
            key="config_file",
        )
        if file is not None:
            _begin_with_file(file.getvalue(), file.name)
    with paste, st.container(border=True, height="stretch"), st.form("paste", border=False):
        st.subheader(t(N_("Paste")), anchor=False)
        text = st.text_area(t(N_("YAML text")), height=120, key="pasted")
        if st.form_submit_button(t(N_("Open as a draft"))) and text.strip():
            _begin(text)
    with fresh, st.container(border=True, height="stretch"):
        st.subheader(t(N_("Start new")), anchor=False)
        st.write(t(N_("From the common keys, or from the demo's config, which trains on this machine.")))
        if st.button(t(N_("New config")), icon=":material/add:", key="blank"):
            _begin(BLANK.format(model=t(N_("a model folder or hub id")), dataset=t(N_("a JSONL file"))))
        if st.button(t(N_("The demo's config")), icon=":material/school:", key="demo_config"):
            _begin(demo_text(settings()))


def _begin_with_file(data: bytes, name: str) -> None:
    document = decode_config(data, name)
    if len(data) > MAX_CONFIG_BYTES or (not document.is_readable and not document.text):
        show_finding(document.problems[0])  # nothing that an editor could show
    elif document.format == "yaml" or not document.is_readable:
        _begin(document.text)
    else:
        _begin(dump_yaml(document.values))


def _begin(text: str) -> None:
    draft = new_draft(settings().drafts, text)
    st.switch_page(CONFIG, query_params={state_keys.DRAFT: draft.id})
