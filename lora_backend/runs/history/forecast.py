"""When the runs of a workspace start and end, as far as that can be told: from what was measured, else from the plan; else nothing.

A run that trains says how long it still takes. How long another one takes is known from its own earlier start, from a finished
training with the same model, data and devices whose steps were as much work, or from the plan's estimate. A run that waits
starts when whoever has its devices, and whoever waits for one of them before it, has ended.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from lora_backend.config.schema import KEYS
from lora_backend.hardware.inventory import read_gpus
from lora_backend.runs.checkpoints.manifest import step_of
from lora_backend.runs.history.run_table import RunRow, points_at_both_ends
from lora_backend.runs.processes.lease_requests import is_chat
from lora_backend.runs.processes.leases import holders
from lora_backend.runs.processes.queue import ReadGpus, waiting_for
from lora_backend.runs.processes.waiting import entries, leases_folder
from lora_backend.runs.record.attempts import Attempt
from lora_backend.runs.record.run_store import RunStore
from lora_backend.runs.record.states import AFTER_TRAINING

Source = Literal["own", "earlier", "plan"]
"""Where a time comes from: the run's own measured speed, an earlier run's, or the plan's estimate."""
Range = tuple[float, float]
"""From the earliest to the latest that is likely; both the same where only one figure is known."""
SLOWED_BY = ("model", "adapter", "training", "evaluation")
"""Groups of keys that say how much work a run is; its devices are compared as they were planned."""
NOT_SLOWED_BY = frozenset(
    {"r", "alpha", "alpha_pattern", "use_rslora", "seed", "max_time", "num_epochs", "max_steps"}
) | {name for name, key in KEYS.items() if key.on_resume in ("schedule", "from_here")}
"""Keys of these groups that change what is learned, or how many steps there are, and hardly how long a step takes."""
_WORK = tuple(name for name, key in KEYS.items() if key.group in SLOWED_BY and name not in NOT_SLOWED_BY)


@dataclass(frozen=True)
class Forecast:
    """Of one run that has not ended. Moments are seconds since the epoch."""

    starts: Range | None = None
    """Of a run that waits."""
    after: str | None = None
    """Id of the run whose end it waits for, the last one where there are several."""
    ends: Range | None = None
    source: Source | None = None
    """Where its own duration comes from."""
    like: str | None = None
    """Id of the earlier run that it is judged by."""

    def to_json(self) -> dict[str, Any]:
        return {
            "starts_at": None if self.starts is None else list(self.starts),
            "after": self.after,
            "ends_at": None if self.ends is None else list(self.ends),
            "source": self.source,
            "like": self.like,
        }


class Pace(NamedTuple):
    """How long the parts of a training took; seconds."""

    head_s: float
    """Until its first step."""
    step_s: float
    """Of a step, with the evaluations between them."""
    tail_s: float
    """From its last step to its end: saved, and its questions answered."""


class Duration(NamedTuple):
    """How long a run takes that has not begun."""

    seconds: Range
    source: Source
    like: str | None = None


def forecasts(
    workspace: Path, rows: Sequence[RunRow], now: float, read: ReadGpus = read_gpus
) -> Mapping[str, Forecast]:
    """Of each run in `rows` that has not ended, by its id. `rows`: all runs of the workspace. `now`: seconds since the epoch."""
    past = _Past(rows, workspace)
    going = {row.id: row for row in rows if not row.state.has_ended and row.state.state != "queued"}
    found = {run_id: _going(row, past, now) for run_id, row in going.items()}
    queue = [entry for entry in entries(workspace) if entry.run.id in past.rows]
    keys = sorted({key for entry in queue for key in entry.keys})
    busy: dict[str, list[tuple[str | None, Range | None]]] = {key: [] for key in keys}
    for holder in holders(leases_folder(workspace), keys):
        if is_chat(holder):  # it makes room at once
            busy[holder.key].append((None, (now, now)))
        else:
            busy[holder.key].append((holder.run, found.get(holder.run, Forecast()).ends))
    for entry in queue:
        before = [one for key in entry.keys for one in busy[key]]
        forecast = _waiting(past.rows[entry.run.id], before, past, now)
        if not before and _lacks_memory(entry.run, workspace, read):
            forecast = Forecast(source=forecast.source, like=forecast.like)
        found[entry.run.id] = forecast
        for key in entry.keys:
            busy[key] = [(entry.run.id, forecast.ends)]
    return found


def _going(row: RunRow, past: _Past, now: float) -> Forecast:
    run, state = past.store(row.id), row.state
    duration = past.duration(row)
    if state.eta_s is not None:
        written = run.read_status().updated_at or now
        tail = past.tail_of(row) if state.stage not in AFTER_TRAINING else 0.0
        end = max(written + state.eta_s + tail, now)
        return Forecast(ends=(end, end), source="own")
    if duration is None:
        return Forecast()
    began = now if state.started_at is None else state.started_at
    early, late = (max(began + seconds, now) for seconds in duration.seconds)
    return Forecast(ends=(early, late), source=duration.source, like=duration.like)


def _waiting(row: RunRow, before: Sequence[tuple[str | None, Range | None]], past: _Past, now: float) -> Forecast:
    """`before`: who ends before it can start, and when."""
    known = [(run_id, ends) for run_id, ends in before if ends is not None]
    last = max(known, key=lambda one: one[1][1], default=None)
    after = last[0] if last else None
    if len(known) < len(before):  # of one of them nobody can tell
        return Forecast(after=next(run_id for run_id, ends in before if ends is None))
    starts = tuple(max([now, *(ends[side] for _, ends in known)]) for side in (0, 1))
    duration = past.duration(row)
    if duration is None:
        return Forecast((starts[0], starts[1]), after)
    ends = (starts[0] + duration.seconds[0], starts[1] + duration.seconds[1])
    return Forecast((starts[0], starts[1]), after, ends, duration.source, duration.like)


def _lacks_memory(run: RunStore, workspace: Path, read: ReadGpus) -> bool:
    """Whether it waits for what no run of ours holds: nobody can tell when others make room."""
    waiting = waiting_for(run, workspace, read)
    return bool(waiting.short_bytes or waiting.missing or waiting.is_copied)


@dataclass
class _Past:
    """What is known of durations; each earlier run is read once."""

    all_rows: Sequence[RunRow]
    workspace: Path
    rows: Mapping[str, RunRow] = field(init=False)
    _finished: Sequence[RunRow] = field(init=False)
    _paces: dict[str, Pace | None] = field(default_factory=dict)
    _works: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        newest_first = sorted(self.all_rows, key=lambda row: row.id, reverse=True)
        self.rows = {row.id: row for row in newest_first}
        self._finished = [row for row in newest_first if row.kind == "train" and row.state.state == "finished"]

    def store(self, run_id: str) -> RunStore:
        return RunStore(self.workspace / "runs" / run_id)

    def duration(self, row: RunRow) -> Duration | None:
        """Of the start that a run waits for, or that has just begun; None where nothing is known of it."""
        if row.kind != "train":
            return None
        run = self.store(row.id)
        attempt = run.read_attempt()
        if attempt.resume_from is not None:
            return self._resumed(row, run, attempt)
        like = self._like(row, attempt)
        if like is not None:
            pace, steps = self._pace(like.id), _steps(row.config, like) or _planned_steps(attempt)
            if pace is not None and steps is not None:
                seconds = pace.head_s + steps * pace.step_s + pace.tail_s
                return Duration((seconds, seconds), "earlier", like.id)
        planned = attempt.planned_time
        return None if planned is None else Duration((planned.fast_s, planned.slow_s), "plan")

    def tail_of(self, row: RunRow) -> float:
        """What comes behind the last step of a run like this one; 0 where that is not known."""
        like = self._like(row, self.store(row.id).read_attempt()) if row.kind == "train" else None
        pace = None if like is None else self._pace(like.id)
        return 0.0 if pace is None else pace.tail_s

    def _resumed(self, row: RunRow, run: RunStore, attempt: Attempt) -> Duration | None:
        """The steps that are left, as fast as those before the stop."""
        before = run.config_as_changed(upto=attempt.number - 1)
        done = step_of(Path(attempt.resume_from or ""))
        total = row.config.get("max_steps") or _scaled(row.config, before, row.state.total_steps)
        pace = self._pace(row.id)
        if pace is None or total is None or done is None:
            return None
        seconds = pace.head_s + max(total - done, 0) * pace.step_s
        return Duration((seconds, seconds), "own")

    def _like(self, row: RunRow, attempt: Attempt) -> RunRow | None:
        """The newest finished training of as much work in each step, on the same devices and data."""
        devices, data = _devices(attempt), self._data(row.id)
        for other in self._finished:
            if other.config.get("model_name") != row.config.get("model_name") or other.id == row.id:
                continue
            if self._work(other) != self._work(row) or _devices(self.store(other.id).read_attempt()) != devices:
                continue
            if self._data(other.id) == data and self._pace(other.id) is not None:
                return other
        return None

    def _data(self, run_id: str) -> str | None:
        record = self.store(run_id).glance_at_record()
        return None if record is None else record.data_sha256

    def _work(self, row: RunRow) -> str:
        if row.id not in self._works:
            self._works[row.id] = _work(row.config)
        return self._works[row.id]

    def _pace(self, run_id: str) -> Pace | None:
        if run_id not in self._paces:
            self._paces[run_id] = _pace_of(self.store(run_id), self.rows[run_id])
        return self._paces[run_id]


def _pace_of(run: RunStore, row: RunRow) -> Pace | None:
    """Of its newest start that trained; None with fewer than two steps."""
    began, ended = run.read_status().started_at, row.state.ended_at  # also of a run that waits to go on
    points = [
        (float(point["step"]), float(point["time"]))
        for point in points_at_both_ends(run)
        if isinstance(point.get("step"), int) and isinstance(point.get("time"), int | float)
    ]
    points = [point for point in points if began is None or point[1] >= began]
    if not points:
        return None
    (first, first_at), (last, last_at) = points[0], points[-1]
    if last <= first or last_at <= first_at:
        return None
    step_s = (last_at - first_at) / (last - first)
    from_step = run.read_attempt().from_step or 0
    head_s = 0.0 if began is None else max(first_at - began - step_s * (first - from_step), 0.0)
    return Pace(head_s, step_s, 0.0 if ended is None else max(ended - last_at, 0.0))


def _work(config: Mapping[str, Any]) -> str:
    """What a step of a config is, as a text to compare: a key that is not there is its default."""
    return json.dumps([config.get(name, KEYS[name].default) for name in _WORK], sort_keys=True, default=str)


def _devices(attempt: Attempt) -> tuple[object, ...]:
    """On what it trains: kinds of devices, and how they share the work."""
    names = sorted(device.name for device in attempt.plan.used) if attempt.plan else sorted(attempt.gpus)
    return attempt.strategy, attempt.num_peers, attempt.cluster is not None, attempt.shares, names


def _steps(config: Mapping[str, Any], like: RunRow) -> int | None:
    """Of a whole run, where another one over the same data says how many an epoch has."""
    asked = config.get("max_steps")
    return asked if isinstance(asked, int) else _scaled(config, like.config, like.state.total_steps)


def _scaled(config: Mapping[str, Any], before: Mapping[str, Any], total: int | None) -> int | None:
    """`total` steps of the config `before`, for another number of epochs."""
    if total is None or before.get("max_steps"):
        return None
    epochs, known = (one.get("num_epochs", KEYS["num_epochs"].default) for one in (config, before))
    return max(math.ceil(total / known * epochs), 1) if known else None


def _planned_steps(attempt: Attempt) -> int | None:
    return None if attempt.planned_time is None else attempt.planned_time.num_steps
