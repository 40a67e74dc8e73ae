"""What somebody should know of a run that goes on: a loss that rises or is dead, a trainer that says nothing, a disk that fills up."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lora_backend.formats import number
from lora_backend.i18n import N_, Message, Plural
from lora_backend.runs.history.loss_health import OVERFLOW_POINTS, LossHealth, health_of
from lora_backend.runs.history.trash import disk_bytes
from lora_backend.runs.record.curves import Column
from lora_backend.runs.record.process_identity import boot_clock_s
from lora_backend.runs.record.run_store import RunStore
from lora_backend.runs.record.states import RunState

STALL_INTERVALS, STALL_S = 10, 60.0
"""Nothing for so many times the usual interval between two points, and for at least so many seconds."""
LEAST_DISK_BYTES = 1 << 30
ROOM_IN_CHECKPOINTS = 2.0


@dataclass(frozen=True)
class Alert:
    """One thing to know, and what to do about it."""

    kind: str
    """`nan`, `divergence`, `dead`, `stall` or `disk`."""
    message: Message


def health_message(health: LossHealth) -> Message:
    """What is wrong with a loss, and what to do about it."""
    values: dict[str, object] = {
        "now": number(health.loss),
        "before": number(health.reference),
        "step": health.step,
        "ratio": health.times,
    }
    if health.code == "diverged":
        return Message(
            N_(
                "The loss is {now}, {ratio} × its start ({before}), and has been far above it since step {step}. Resume it with a lower `learning_rate`, or start a new run with a lower `alpha`."
            ),
            values,
        )
    if health.code == "rose":
        return Message(
            N_(
                "The loss is {now}, after {before} at step {step}: what was learned is being lost. Resume it with a lower `learning_rate`."
            ),
            values,
        )
    if health.vocabulary_size:
        return Message(
            N_(
                "The loss is stuck at {now}, the loss of guessing among {size} tokens: the model is dead. Start a new run with a lower `learning_rate` or `alpha`."
            ),
            {"now": number(health.loss), "size": health.vocabulary_size},
        )
    if health.overflown:
        return Message(
            N_(
                "The gradient was NaN or infinite at {count} of the last {total} points, and those steps changed nothing: the model is dead. Start a new run with a lower `learning_rate` or `alpha`, or in bf16 or fp32 if it was in fp16."
            ),
            {"count": health.overflown, "total": OVERFLOW_POINTS},
        )
    return Message(
        N_(
            "The gradient is 0 and the loss is stuck at {now}: the model is no longer learning. Start a new run with a lower `learning_rate` or `alpha`, and check that the data has tokens to learn."
        ),
        {"now": number(health.loss)},
    )


def alerts(run: RunStore, state: RunState, columns: dict[str, Column]) -> list[Alert]:
    """Of a run that goes on; empty for one that has ended, whose state says what there is to say."""
    if state.has_ended or state.state == "queued":
        return []
    health = health_of(run)
    return [*_not_a_number(columns, health), *_loss(health), *_stalls(run, state, columns), *_disk(run)]


def _not_a_number(columns: dict[str, Column], health: LossHealth) -> Iterator[Alert]:
    """The trainer ends at a NaN loss by itself; a gradient that overflows is left out by fp16's scaler, and goes on."""
    if not columns:
        return
    trained = np.isfinite(columns["learning_rate"])
    lost = int((trained & ~np.isfinite(columns["loss"])).sum())
    if lost:
        yield Alert(
            "nan",
            Message(
                Plural(
                    "The loss was NaN or infinite at {count} point.", "The loss was NaN or infinite at {count} points."
                ),
                {"count": lost},
            ),
        )
    overflown = int((trained & np.isfinite(columns["loss"]) & ~np.isfinite(columns["grad_norm"])).sum())
    if (
        not health.overflown and overflown > 3 and overflown > 0.1 * trained.sum()
    ):  # the scaler's first search for a scale is normal
        yield Alert(
            "nan",
            Message(
                Plural(
                    "The gradient was NaN or infinite at {count} of {points}, so that step changed nothing. Lower `learning_rate`, or train in bf16 or fp32.",
                    "The gradient was NaN or infinite at {count} of {points}, so those steps changed nothing. Lower `learning_rate`, or train in bf16 or fp32.",
                ),
                {
                    "count": overflown,
                    "points": Message(Plural("{count} point", "{count} points"), {"count": int(trained.sum())}),
                },
            ),
        )


def _loss(health: LossHealth) -> Iterator[Alert]:
    if health.is_bad:
        yield Alert("dead" if health.code == "dead" else "divergence", health_message(health))


def _stalls(run: RunStore, state: RunState, columns: dict[str, Column]) -> Iterator[Alert]:
    silent_s = state.silent_s
    if silent_s is None and state.stage == "training" and columns:
        times = columns["time"][np.isfinite(columns["time"])][-50:]
        usual_s = float(np.median(np.diff(times))) if len(times) > 2 else None
        written = run.read_status().updated_boot_clock_s
        quiet_s = 0.0 if written is None else boot_clock_s() - written
        if usual_s is not None and quiet_s > max(STALL_INTERVALS * usual_s, STALL_S):
            silent_s = quiet_s
    if silent_s is not None:
        yield Alert(
            "stall",
            Message(
                Plural(
                    "The trainer has written nothing for {count} minute. It is still alive, so this may be a long step; if its log does not move either, stop the run and resume it.",
                    "The trainer has written nothing for {count} minutes. It is still alive, so this may be a long step; if its log does not move either, stop the run and resume it.",
                ),
                {"count": max(round(silent_s / 60), 1)},
            ),
        )


def _disk(run: RunStore) -> Iterator[Alert]:
    try:
        free_bytes = shutil.disk_usage(run.path).free
    except OSError:
        return
    saved = sorted(run.checkpoints.glob("checkpoint-*"), key=_changed_at)
    checkpoint_bytes = disk_bytes(saved[-1]) if saved else 0
    if free_bytes >= max(LEAST_DISK_BYTES, ROOM_IN_CHECKPOINTS * checkpoint_bytes):
        return
    values: dict[str, Any] = {"free": f"{free_bytes / 2**30:.2f}", "checkpoint": f"{checkpoint_bytes / 2**30:.2f}"}
    sentence = (
        N_(
            "The disk is nearly full: {free} GiB are free, but a checkpoint takes {checkpoint} GiB. Free some space before the next one."
        )
        if saved
        else N_("The disk is nearly full: {free} GiB are free. Free some space before the first checkpoint.")
    )
    yield Alert("disk", Message(sentence, values))


def _changed_at(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:  # rotated away meanwhile
        return 0.0
