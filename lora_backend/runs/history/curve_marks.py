"""Where a run's curves are marked: its checkpoints, the steps at which a start ended, and those from which one went on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from lora_backend.runs.history.checkpoint_list import resumed_steps, saved_steps
from lora_backend.runs.record.curves import Column, read_columns
from lora_backend.runs.record.documents import Exit
from lora_backend.runs.record.locked_files import read_json
from lora_backend.runs.record.run_store import RunStore


@dataclass(frozen=True)
class Marks:
    """Steps, in order."""

    saved: list[int] = field(default_factory=list)
    """Of the checkpoints that are there."""
    ended: list[int] = field(default_factory=list)
    """At which a start ended before the training did, by whatever cause."""
    resumed: list[int] = field(default_factory=list)
    """From which a later start went on."""


def marks_of(run: RunStore, columns: Mapping[str, Column]) -> Marks:
    """`columns` are the run's points."""
    return Marks(saved_steps(run), _end_steps(run, columns), resumed_steps(run))


def without_pauses(columns: dict[str, Column], resumed: list[int]) -> dict[str, Column]:
    """The same points on a clock that stands still between the end of a start and the next one's first point.

    That first interval is taken for as long as the others are in the middle, step by step.
    """
    if not resumed or "time" not in columns or len(columns["time"]) < 2 or not np.isfinite(columns["step"]).all():
        return columns
    steps, spent_s = columns["step"], np.diff(columns["time"])
    after = np.searchsorted(steps, resumed, side="right")  # the first point beyond the checkpoint that it went on from
    pauses = [int(place) - 1 for place in after if 0 < place < len(steps)]
    num_steps = np.maximum(np.diff(steps), 1)
    pace_s = np.delete(spent_s / num_steps, pauses)
    pace_s = pace_s[np.isfinite(pace_s)]
    if not pauses or not len(pace_s):
        return columns
    spent_s[pauses] = np.minimum(spent_s[pauses], num_steps[pauses] * max(float(np.median(pace_s)), 0.0))
    return columns | {"time": columns["time"][0] + np.concatenate(([0.0], np.cumsum(spent_s)))}


def _end_steps(run: RunStore, columns: Mapping[str, Column]) -> list[int]:
    newest = run.newest_number()
    found = [_end_of_start(run, number) for number in run.attempt_numbers() if number < newest]
    ended = run.read_exit()
    if ended is not None and ended.state != "finished":
        found.append(_last_step(columns))
    return sorted({step for step in found if step is not None})


def _end_of_start(run: RunStore, number: int) -> int | None:
    """The last step of an earlier start: of the points that the next one took back, else where that went on."""
    ended = read_json(run.attempt_exit_json(number))
    if ended is None or Exit.read(ended).state == "finished":
        return None
    beyond = _last_step(read_columns(run.attempt_metrics_jsonl(number + 1)))
    return run.read_attempt(number + 1).from_step if beyond is None else beyond


def _last_step(columns: Mapping[str, Column]) -> int | None:
    steps = columns.get("step", np.array([]))
    steps = steps[np.isfinite(steps)]
    return int(steps[-1]) if len(steps) else None
