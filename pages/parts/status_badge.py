"""A run's state in words, with a colour and a symbol."""

from __future__ import annotations

from typing import Literal

import streamlit as st

from lora_backend.i18n import N_
from pages.parts.language import t

Color = Literal["red", "orange", "blue", "green", "gray", "violet"]
BADGES: dict[str, tuple[str, Color, str]] = {
    "queued": (N_("Queued"), "gray", ":material/schedule:"),
    "starting": (N_("Starting"), "blue", ":material/hourglass_top:"),
    "running": (N_("Running"), "blue", ":material/play_arrow:"),
    "stopping": (N_("Stopping"), "orange", ":material/hourglass_bottom:"),
    "stopped": (N_("Stopped"), "orange", ":material/stop_circle:"),
    "finished": (N_("Finished"), "green", ":material/check_circle:"),
    "failed": (N_("Failed"), "red", ":material/error:"),
    "lost": (N_("Lost"), "red", ":material/help:"),
}
STAGES = {
    "preparing": N_("preparing the model"),
    "data": N_("reading the data"),
    "loading": N_("loading the model"),
    "first_step": N_("trying the longest batch"),
    "training": N_("training"),
    "saving": N_("saving the adapter"),
    "answering": N_("answering the questions"),
}


def status_badge(state: str) -> None:
    """Show the badge of `state`."""
    word, color, icon = BADGES[state]
    st.badge(t(word), color=color, icon=icon)


def stage_in_words(stage: str | None) -> str:
    """What the trainer is at; before it says so, that Python and torch are starting."""
    return t(STAGES[stage]) if stage in STAGES else t(N_("starting Python and torch"))
