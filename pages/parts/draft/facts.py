"""What the form knows of a config's model and data: names, ranges, rows; from what the check has read."""

from __future__ import annotations

from dataclasses import dataclass

import streamlit as st

from lora_backend.data.summary import Summary
from lora_backend.i18n import N_, Plural
from lora_backend.models.describe import ModelDescription
from lora_backend.preflight.resolve import ResolvedConfig
from pages.parts.shell.language import t
from pages.parts.shell.markdown import code, escape, joined

SHOWN_MODULES = 12


@dataclass(frozen=True)
class KnownFacts:
    """None where the files are not on this machine, or cannot be read; the findings say which."""

    model: ModelDescription | None = None
    data: Summary | None = None


def known_facts(config: ResolvedConfig) -> KnownFacts:
    """What is known of the model and the data set that a config names."""
    return KnownFacts(config.description, config.data)


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
        facts = [t(Plural("{count} row", "{count} rows"), count=data.num_rows), code(data.format)]
        if list(data.columns) != [data.format]:  # a chat's column has the name of its format
            facts.append(joined(", ", map(code, data.columns)))
        st.caption(":material/table_rows: " + t(N_("Data: {facts}"), facts=joined(" · ", facts)))
