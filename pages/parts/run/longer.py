"""Train a finished run longer: how much in all, and what that does to its schedule."""

from __future__ import annotations

from typing import Any

import streamlit as st

from lora_backend.i18n import N_
from lora_backend.runs.record.run_store import RunStore
from pages.parts.shell.language import t

EPOCHS, STEPS = "num_epochs", "max_steps"
USUAL_EPOCHS = 3.0
"""Where the config does not say it."""


def train_longer(run: RunStore) -> dict[str, Any] | None:
    """A form behind a button; the changes to resume with, once they are asked for."""
    with st.popover(t(N_("Train longer…")), icon=":material/fast_forward:"):
        changes = _wanted(run)
        st.caption(
            t(N_("Continues from the last checkpoint. The learning rate schedule is recomputed for the new length."))
        )
        pressed = st.button(
            t(N_("Continue training")), type="primary", key="train_longer", icon=":material/play_arrow:"
        )
    return changes if pressed else None


def _wanted(run: RunStore) -> dict[str, Any]:
    """Twice as long, unless told otherwise; in steps where the run counts those."""
    config = run.config_as_changed()
    steps, epochs = config.get(STEPS), config.get(EPOCHS, USUAL_EPOCHS)
    if isinstance(steps, int) and steps > 0:
        label = t(N_("Total steps (so far {count})"), count=steps)
        return {STEPS: int(st.number_input(label, min_value=steps + 1, value=2 * steps, key=f"longer-steps-{run.id}"))}
    before = float(epochs) if isinstance(epochs, int | float) and epochs > 0 else USUAL_EPOCHS
    label = t(N_("Total epochs (so far {count})"), count=f"{before:g}")
    asked = st.number_input(label, min_value=before, value=2 * before, step=1.0, format="%g", key=f"longer-{run.id}")
    return {EPOCHS: int(asked) if float(asked).is_integer() else float(asked)}
