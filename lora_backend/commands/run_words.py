"""Runs in words for a terminal: states, times, what a run waits for, and tables whose columns stand in line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lora_backend import formats
from lora_backend.config.diff import ABSENT
from lora_backend.config.findings import shorten
from lora_backend.config.short_values import map_summary
from lora_backend.escaping import visible
from lora_backend.formats import number, size
from lora_backend.i18n import N_, Message
from lora_backend.runs.history.loss_health import LossHealth
from lora_backend.runs.history.sentences import STATE_WORDS, damaged_messages, state_message, waiting_messages
from lora_backend.runs.processes.queue import Waiting, waiting_for
from lora_backend.runs.processes.recovery import recover, workspace_of
from lora_backend.runs.record.run_folder import RunFolder


def say(template: str, **values: object) -> str:
    """A sentence in the language of the command."""
    return Message(template, values).text()


def state_word(state: str, health: LossHealth | None = None) -> str:
    """A state in the language of the command, and how the loss went where that was not well."""
    return state_message(state, health).text() if state in STATE_WORDS else visible(state)


def cell(value: Any, limit: int = 60) -> str:
    """A value of a config or a figure; a dash where there is none."""
    if value is None or value is ABSENT:
        return "–"
    if isinstance(value, float):
        return number(value)
    return shorten(value, limit).strip('"')


def figure(name: str, value: Any, limit: int = 60) -> str:
    """A figure or a config's value by its name: bytes are shown as a size, a long map by what is in it."""
    if (summary := map_summary(name, value)) is not None:
        return summary.text()
    return size(value) if name.endswith("_bytes") and isinstance(value, int | float) else cell(value, limit)


def duration(seconds: float | None) -> str:
    """A time in the language of the command."""
    return formats.duration(seconds).text()


def waiting_text(waiting: Waiting) -> str:
    """Who has the devices of a queued run, who came before it, and what its plan lacks."""
    return " ".join(map(str, waiting_messages(waiting))) or say(N_("It starts by itself when its turn comes."))


def waiting_document(waiting: Waiting) -> dict[str, Any]:
    """The same for a script."""
    return {
        "holders": [{"device": holder.key, "run": holder.run, "since": holder.since} for holder in waiting.holders],
        "ahead": list(waiting.ahead),
        "short_bytes": dict(waiting.short_bytes or {}),
        "missing": list(waiting.missing),
    }


def damaged_lines(damaged: Sequence[Mapping[str, Any]]) -> list[str]:
    """What is wrong with checkpoints that are passed over."""
    return [message.text() for message in damaged_messages(damaged)]


def started_line(run: RunFolder) -> str:
    """That a run has started, or what it waits for."""
    if recover(run).state == "queued":
        return f"{run.id}: {say(N_('queued.'))} {waiting_text(waiting_for(run, workspace_of(run)))}"
    return f"{run.id}: {say(N_('started.'))} {run.path}"
