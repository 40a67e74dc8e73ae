"""What the form knows of a config's model and data: names, ranges, rows; read once for each state of their files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import streamlit as st

from lora_backend.data.summary import Summary, summary_of
from lora_backend.errors import FlightdeckError
from lora_backend.i18n import N_, Plural
from lora_backend.models.describe import ModelDescription, describe_model
from lora_backend.preflight.facts import kept_summaries
from lora_backend.preflight.roots import allowed_model, bind_paths
from pages.parts.shell.language import t
from pages.parts.shell.markdown import code, escape, joined
from pages.parts.shell.services import settings

SHOWN_MODULES = 12


@dataclass(frozen=True)
class KnownFacts:
    """None where the files are not on this machine, or cannot be read; the findings say which."""

    model: ModelDescription | None = None
    data: Summary | None = None


def known_facts(values: Mapping[str, Any]) -> KnownFacts:
    """What is known of the model and the data set that a config names."""
    return KnownFacts(_model(values.get("model_name")), _data(values.get("dataset")))


def show_known_facts(known: KnownFacts) -> None:
    """One line for the model, one for the data."""
    model, data = known.model, known.data
    if model is not None:
        parts = [escape(model.model_type or "–")]
        if model.num_blocks:
            parts.append(
                t(
                    Plural("{count} block (0 to {last})", "{count} blocks (0 to {last})"),
                    count=model.num_blocks,
                    last=model.num_blocks - 1,
                )
            )
        if model.max_positions:
            parts.append(t(N_("{count} positions"), count=model.max_positions))
        if model.linear_modules:
            parts.append(joined(", ", map(code, model.linear_modules[:SHOWN_MODULES])))
        st.caption(":material/deployed_code: " + t(N_("Model: {facts}"), facts=joined(" · ", parts)))
    if data is not None:
        columns = joined(", ", map(code, data.columns))
        facts = joined(
            " · ", (t(Plural("{count} row", "{count} rows"), count=data.num_rows), code(data.format), columns)
        )
        st.caption(":material/table_rows: " + t(N_("Data: {facts}"), facts=facts))


def _model(name: Any) -> ModelDescription | None:
    if not isinstance(name, str) or not name:
        return None
    try:
        path = allowed_model(name, settings())
        stamp = (path / "config.json" if path.is_dir() else path).stat().st_mtime_ns
        return _describe(path, stamp)
    except (FlightdeckError, OSError):
        return None


def _data(name: Any) -> Summary | None:
    if not isinstance(name, str) or not name:
        return None
    try:
        return summary_of(Path(bind_paths({"dataset": name}, settings())["dataset"]), kept=kept_summaries(settings()))
    except (FlightdeckError, OSError, ValueError):
        return None


@st.cache_data(show_spinner=False, max_entries=32)
def _describe(path: Path, stamp: int) -> ModelDescription:
    return describe_model(path)
