"""A run's state in words, with a colour and a symbol."""

from __future__ import annotations

from typing import Literal

import streamlit as st

from lora_backend.runs.words import STATE_WORDS, stage_message
from pages.parts.language import say, t

Color = Literal["red", "orange", "blue", "green", "gray", "violet"]
BADGES: dict[str, tuple[Color, str]] = {
    "queued": ("gray", ":material/schedule:"),
    "starting": ("blue", ":material/hourglass_top:"),
    "running": ("blue", ":material/play_arrow:"),
    "stopping": ("orange", ":material/hourglass_bottom:"),
    "stopped": ("orange", ":material/stop_circle:"),
    "finished": ("green", ":material/check_circle:"),
    "failed": ("red", ":material/error:"),
    "lost": ("red", ":material/help:"),
}


def status_badge(state: str) -> None:
    """Show the badge of `state`."""
    color, icon = BADGES[state]
    st.badge(state_in_words(state), color=color, icon=icon)


def state_in_words(state: str) -> str:
    """A state in the reader's language."""
    return t(STATE_WORDS[state])


def stage_in_words(stage: str | None) -> str:
    """What the trainer is at; before it says so, that Python and torch are starting."""
    return say(stage_message(stage))
