"""A run in short: its name, how far it is, and the columns in which a list of runs shows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lora_backend.config.diff import ABSENT
from lora_backend.config.short_values import in_short
from lora_backend.formats import duration, number, size, when
from lora_backend.i18n import N_, Message
from lora_backend.runs.history.checkpoint_list import Best
from lora_backend.runs.history.pace import time_left
from lora_backend.runs.history.run_table import RunRow, first_and_last_loss
from lora_backend.runs.record.curves import Column
from lora_backend.runs.record.documents import Kind, RunRecord
from lora_backend.runs.record.run_store import RunStore
from lora_backend.runs.record.states import AFTER_TRAINING, RunState
from lora_backend.views.export_view import TARGETS
from lora_backend.views.state_view import stage_parts, state_message

DEFAULT_COLUMNS = ("loss", "eval_loss", "r", "learning_rate")
"""Of a list of runs, beside those that every list has."""
HEADS = {
    "id": "ID",
    "state": N_("State"),
    "name": N_("Name"),
    "started": N_("Started"),
    "step": N_("Step"),
    "tags": N_("Tags"),
}
"""Of the columns that every list of runs has."""
PIN = "★ "
KIND_WORDS: dict[Kind, str] = {
    "train": N_("Training"),
    "evaluate": N_("Evaluation"),
    "export": N_("Export"),
    "download": N_("Download"),
}
EFFECTS = {
    "safe": N_("safe"),
    "restarts_schedule": N_("the schedule is recomputed"),
    "refused": N_("refused"),
}
"""What a changed setting does to a run that is resumed with it."""


@dataclass(frozen=True)
class ListedRun:
    """A row of a list of runs: a field for each of `HEADS`, and the values of the columns that were chosen."""

    id: str
    state: Message
    name: str
    started: str
    step: str
    tags: str
    values: Mapping[str, Any]
    """Column → a config's value or a figure."""


def listed(row: RunRow, columns: Sequence[str]) -> ListedRun:
    """One run as a list shows it."""
    return ListedRun(
        row.id,
        state_message(row.state.state, row.health),
        (PIN if row.labels.pinned else "") + row.title,
        when(row.created_at),
        step_of(row.state.step, row.state.total_steps),
        ", ".join(row.labels.tags),
        {column: row.column(column) for column in columns},
    )


def run_title(record: RunRecord) -> str:
    """A run's name, else its model's."""
    return record.name or Path(str(record.config.get("model_name", ""))).name or "–"


def job_title(kind: Kind, name: str) -> Message:
    """Of a run that trains nothing: what it does, and to what. An export's name ends with the code of its target."""
    of, _, code = name.rpartition(" → ")
    word = next((word for target, word in TARGETS.items() if target == code), None)
    shown: Message | str = name
    if kind == "export" and word is not None:
        shown = Message("{of} → {target}", {"of": of, "target": Message(word)})
    return Message(N_("{kind}: {name}"), {"kind": Message(KIND_WORDS[kind]), "name": shown})


def step_of(step: int, total_steps: int | None) -> str:
    """`12 / 51`, for a cell."""
    return f"{step} / {total_steps or '–'}"


def value_text(name: str, value: Any, limit: int = 60, language: str | None = None) -> str:
    """A config's value or a figure by its name: bytes as a size, a long map by what is in it, a dash for none."""
    if value is None or value is ABSENT:
        return "–"
    if name.endswith("_bytes") and isinstance(value, int | float):
        return size(value)
    return number(value) if isinstance(value, float) else in_short(name, value, limit, language)


def progress_parts(state: RunState, columns: dict[str, Column], saved: Sequence[int] = ()) -> list[Message]:
    """`Step 12 of 51`, the time that is left or that it took, the last checkpoint and the best evaluation; empty before a step is known."""
    if not state.total_steps:
        return []
    parts = [_step(state)]
    if not state.has_ended and state.stage not in AFTER_TRAINING:
        parts.append(Message("{percent}%", {"percent": percent_of(state)}))
    if state.eta_s is not None and not state.has_ended and state.stage not in AFTER_TRAINING:
        parts.append(_left(state, columns))
    if state.has_ended and state.started_at and state.ended_at:
        parts.append(Message(N_("took {time}"), {"time": duration(state.ended_at - state.started_at)}))
    if saved:
        parts.append(Message(N_("last checkpoint at step {step}"), {"step": saved[-1]}))
    if state.best_step is not None:
        parts.append(Message(N_("best evaluation at step {step}"), {"step": state.best_step}))
    return parts


def percent_of(state: RunState) -> int:
    """Steps that are done, of 100; never 100 before the last one is."""
    return 100 * state.step // state.total_steps if state.total_steps else 0


def tab_title(record: RunRecord, state: RunState) -> str:
    """What the browser's tab says: `42% · name` while it trains, and of its answers while it gives those."""
    title = run_title(record)
    if state.has_ended or not state.total_steps:
        return title
    answering = state.stage in AFTER_TRAINING and state.fraction is not None
    return f"{int(100 * (state.fraction or 0.0)) if answering else percent_of(state)}% · {title}"


def going_in_short(run: RunStore, state: RunState, columns: dict[str, Column], now: float) -> list[Message]:
    """What the bar of a run that goes on has room for: the stage, or step, time left and loss. `now`: seconds since the epoch."""
    if state.stage != "training":
        return stage_parts(state)
    parts = progress_parts(state, columns)
    if state.eta_s is not None:
        parts.append(Message(N_("ends at about {time}"), {"time": when(now + state.eta_s, "%H:%M")}))
    return [*parts, *loss_in_short(run)]


def loss_in_short(run: RunStore) -> list[Message]:
    """From the first point to the newest; nothing before there is one."""
    losses = first_and_last_loss(run)
    if losses is None:
        return []
    first, last = (number(loss, 3) for loss in losses)
    return [Message(N_("loss {first} → {last}"), {"first": first, "last": last})]


def best_message(best: Best) -> Message:
    """What the mark in a list of checkpoints means."""
    said = N_("★ marks the best {figure}; the run ends with the adapter of the last step.")
    if best.is_the_adapter:
        said = N_("★ marks the best {figure}; the run ends with that checkpoint's adapter.")
    return Message(said, {"figure": best.by.name})


def _step(state: RunState) -> Message:
    return Message(N_("Step {step} of {total}"), {"step": state.step, "total": state.total_steps})


def _left(state: RunState, columns: dict[str, Column]) -> Message:
    left = time_left(columns, state.total_steps, state.started_at)
    if left is None:
        return Message(N_("{time} left"), {"time": duration(state.eta_s)})
    low, high = duration(left.low_s), duration(left.high_s)
    if low == high:
        return Message(N_("{time} left"), {"time": low})
    values = {"time": duration(left.expected_s), "low": low, "high": high}
    return Message(N_("{time} left (between {low} and {high})"), values)
