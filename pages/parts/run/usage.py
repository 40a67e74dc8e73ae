"""What a running run's devices hold now, beside the plan."""

from __future__ import annotations

import streamlit as st

from lora_backend.formats import size
from lora_backend.i18n import N_
from lora_backend.runs.history.usage import GpuUsage, usage
from lora_backend.runs.record.run_store import RunStore
from pages.parts.shell.language import t
from pages.parts.shell.markdown import joined


def usage_now(run: RunStore) -> None:
    """Every GPU of the run, and the host."""
    now = usage(run)
    st.markdown(f"**{t(N_('Now'))}**")
    for found in now.gpus:
        _gpu(found)
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


def _gpu(found: GpuUsage) -> None:
    gpu = found.gpu
    parts = [
        t(N_("{gpu}: {used} of {total} in use"), gpu=gpu.name, used=size(gpu.used_bytes), total=size(gpu.total_bytes))
    ]
    if found.trainer_bytes is not None:
        parts.append(t(N_("{size} by the trainer"), size=size(found.trainer_bytes)))
    if found.planned_bytes is not None:
        parts.append(t(N_("planned at most {size}"), size=size(found.planned_bytes)))
    if gpu.utilization is not None:
        parts.append(t(N_("busy {percent} %"), percent=round(100 * gpu.utilization)))
    st.progress(min(gpu.used_bytes / max(gpu.total_bytes, 1), 1.0), joined(" · ", parts))
