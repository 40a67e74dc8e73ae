"""Check what is in memory: the torch process loads base model and adapter, the page shows how far it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import streamlit as st

from lora_backend.errors import ModelError, WorkerError
from lora_backend.i18n import N_
from lora_backend.preflight.roots import allowed_model
from lora_backend.verification.adapter_folder import read_adapter_config
from lora_backend.verification.rank_documents import RankReport
from pages.parts.ranks import session
from pages.parts.ranks.base import model_title
from pages.parts.shell.language import say, t
from pages.parts.shell.markdown import code
from pages.parts.shell.services import installation, worker

DEADLINE_S = 600.0


def loaded_check(adapter: Path, config: dict[str, Any], show: Callable[[RankReport], None]) -> None:
    """A button that loads and checks; its last answer for this adapter stays on the page."""
    own = read_adapter_config(adapter) or {}
    model_name = str(config.get("model_name") or own.get("base_model_name_or_path") or "")
    question = (str(adapter), model_name, sorted(config.items(), key=str))
    st.caption(
        t(
            N_(
                "Loads {model} with the adapter in a separate process, then checks the ranks in memory and compares every tensor with the file."
            ),
            model=code(model_title(model_name) or "–"),
        )
    )
    if st.button(t(N_("Load and check")), icon=":material/memory:", key="load_and_check", disabled=not model_name):
        with st.status(t(N_("Starting torch and PEFT")), expanded=False) as status:
            try:
                allowed_model(model_name, installation())
                answer = worker().ask(
                    "check_loaded_ranks",
                    {"adapter": str(adapter), "model_name": model_name, "config": config},
                    DEADLINE_S,
                    lambda message, _: status.update(label=say(message)),
                )
            except (WorkerError, ModelError) as error:
                status.update(label=say(error.message), state="error")
                return
            status.update(label=t(N_("Checked.")), state="complete")
        st.session_state[session.LOADED_REPORT] = (question, RankReport.read(answer))
    asked, report = st.session_state.get(session.LOADED_REPORT, (None, None))
    if asked == question:
        show(report)
