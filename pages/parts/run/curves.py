"""A run's curves: what was read of its points, and the charts of them."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from lora_backend.i18n import N_
from lora_backend.runs.history.checkpoint_list import resumed_steps, saved_steps
from lora_backend.runs.record.curves import points, read_columns
from lora_backend.runs.record.run_store import RunStore
from lora_backend.runs.record.states import RunState
from pages.parts.shell.language import t
from pages.parts.widgets.charts import MEMORY, NORM, RATE, SPEED, Columns, figure_chart, loss_chart


def run_columns(run: RunStore) -> Columns:
    """The run's points as columns; nobody changes what it returns."""
    try:
        found = run.metrics_jsonl.stat()
    except OSError:
        return {}
    return _read_columns(str(run.metrics_jsonl), (found.st_size, found.st_mtime_ns))


@st.cache_resource(max_entries=16, show_spinner=False)
def _read_columns(path: str, stamp: tuple[int, int]) -> Columns:
    """Read again only when the file has grown."""
    return read_columns(Path(path))


def run_curves(run: RunStore, columns: Columns, state: RunState) -> None:
    """The charts of a run, or what they wait for."""
    if not columns:
        before, after = N_("Waiting for the first step…"), N_("It ended before its first step was logged.")
        st.info(t(after if state.has_ended else before), icon=":material/show_chart:")
        return
    plain_chart = {"displayModeBar": False}
    st.plotly_chart(loss_chart(columns, saved_steps(run), resumed_steps(run)), key="loss_chart", config=plain_chart)
    small = (
        ("learning_rate", N_("Learning rate"), RATE, 1.0),
        ("tokens_per_s", N_("Tokens/s"), SPEED, 1.0),
        ("grad_norm", N_("Gradient norm"), NORM, 1.0),
        ("memory_bytes", N_("Memory, GiB"), MEMORY, 2.0**30),
    )
    drawn = [entry for entry in small if len(points(columns, entry[0])[0])]
    places = [place for _ in range(0, len(drawn), 2) for place in st.columns(2)]
    for place, (key, title, color, scale) in zip(places, drawn, strict=False):
        place.plotly_chart(figure_chart(columns, key, t(title), color, scale), key=f"{key}_chart", config=plain_chart)
