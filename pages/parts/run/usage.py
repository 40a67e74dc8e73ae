"""What a running run's devices hold now, beside the plan."""

from __future__ import annotations

import streamlit as st

from lora_backend.formats import size
from lora_backend.i18n import N_
from lora_backend.runs.history.usage import usage
from lora_backend.runs.record.run_store import RunStore
from pages.parts.shell.language import t
from pages.parts.widgets.gpu_panel import gpu_panel


def usage_now(run: RunStore) -> None:
    """Every GPU of the run, and the host."""
    now = usage(run)
    st.markdown(f"**{t(N_('Now'))}**")
    gpu_panel(now.gpus, run.id)
    trainer = size(now.trainer_bytes)
    st.progress(
        min(now.host_used_bytes / now.host_total_bytes, 1.0),
        t(
            N_("Host memory: {used} of {total} in use, {trainer} by the trainer"),
            used=size(now.host_used_bytes),
            total=size(now.host_total_bytes),
            trainer=trainer,
        ),
    )
