"""A run's state in words, with a colour and a symbol."""

from __future__ import annotations

from typing import Literal

import streamlit as st

from lora_backend.runs.history.loss_health import UNKNOWN, LossHealth
from lora_backend.views.state_view import stage_message, state_message
from pages.parts.shell.language import say
from pages.parts.shell.markdown import Markdown

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


BAD_LOSS: dict[str, tuple[Color, str]] = {
    "diverged": ("red", ":material/trending_up:"),
    "rose": ("orange", ":material/trending_up:"),
    "dead": ("red", ":material/heart_broken:"),
}
"""What takes the place of a badge that would reassure."""


def status_badge(state: str, health: LossHealth = UNKNOWN) -> None:
    """Show the badge of `state`; of a run whose loss did not go well it says so."""
    color, icon = BAD_LOSS[health.code] if health.is_told_beside(state) else BADGES[state]
    st.badge(state_in_words(state, health), color=color, icon=icon)


def state_in_words(state: str, health: LossHealth = UNKNOWN) -> Markdown:
    """A state in the reader's language."""
    return say(state_message(state, health))


def stage_in_words(stage: str | None) -> Markdown:
    """What the trainer is at; before it says so, that Python and torch are starting."""
    return say(stage_message(stage))
