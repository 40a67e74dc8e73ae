"""All runs of a workspace as rows, with any config key or figure as a column; read again only where a file changed."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lora_backend.bounded import open_regular
from lora_backend.config.diff import ABSENT, same_value
from lora_backend.runs.history.loss_health import UNKNOWN, LossHealth, health_of
from lora_backend.runs.record.curves import last_value
from lora_backend.runs.record.documents import Kind, Labels
from lora_backend.runs.record.locked_files import MAX_REPORT_BYTES, read_json
from lora_backend.runs.record.run_labels import read_labels
from lora_backend.runs.record.run_store import RunStore, config_after
from lora_backend.runs.record.states import RunState
from lora_backend.verification.rank_documents import HEAD_BYTES, consistency_in

KIND = "kind"
"""A column beside the figures and the keys of a config."""
FIGURES = ("loss", "eval_loss", "learning_rate", "grad_norm", "tokens_per_s", "memory_bytes")
READERS = 8
"""Threads that read runs at once."""
STAMPED = ("run.json", "exit.json", "metrics.jsonl", "rank_report.json", "labels.json")
"""Files that a row is made of."""
TAIL_BYTES = 32_768
"""Of the points' file, read for the newest value of each figure."""


@dataclass(frozen=True)
class RunRow:
    """One run, as a table shows it."""

    id: str
    kind: Kind
    name: str | None
    actor: str
    created_at: float
    """Seconds since the epoch."""
    state: RunState
    config: dict[str, Any]
    figures: dict[str, float | None]
    labels: Labels
    is_consistent: bool | None
    """What the rank check said; None where it said nothing."""
    health: LossHealth = UNKNOWN
    """How its loss went."""

    @property
    def title(self) -> str:
        """Its name, else its model's."""
        return str(self.name or Path(str(self.config.get("model_name", ""))).name or "–")

    def column(self, key: str) -> Any:
        """Its kind, a config key, else a figure; `learning_rate` is the config's where it says one."""
        if key == KIND:
            return self.kind
        return self.config[key] if key in self.config else self.figures.get(key)

    def to_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "kind": self.kind,
            "name": self.name,
            "actor": self.actor,
            "created_at": self.created_at,
            "state": self.state.state,
            "step": self.state.step,
            "total_steps": self.state.total_steps,
            "cause": self.state.cause,
            "config": self.config,
            "figures": self.figures,
            "tags": list(self.labels.tags),
            "note": self.labels.note,
            "pinned": self.labels.pinned,
            "archived": self.labels.archived,
            "is_consistent": self.is_consistent,
            "health": self.health.to_json(),
        }


@dataclass
class History:
    """The runs below one folder. Keeps what it read; may be asked from any thread."""

    root: Path
    _known: dict[str, tuple[tuple[int, ...], RunRow]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def rows(self) -> list[RunRow]:
        """Every run, pinned ones first, then the newest first."""
        with self._lock:
            stamps = {name: _stamp(f"{self.root}/{name}") for name in _names(self.root)}
            changed = [name for name, stamp in stamps.items() if not self._is_known(name, stamp)]
            # Most of a first look is waiting for the disk, one small file behind the other.
            with ThreadPoolExecutor(READERS) as pool:
                read = dict(zip(changed, pool.map(self._read, changed), strict=True))
            rows = {name: read[name] if name in read else self._known[name][1] for name in stamps}
            self._known = {name: (stamps[name], row) for name, row in rows.items() if row is not None}
            found = [row for _, row in self._known.values()]
        return sorted(found, key=lambda row: not row.labels.pinned)

    def _is_known(self, name: str, stamp: tuple[int, ...]) -> bool:
        known = self._known.get(name)
        # Only `exit.json` makes an end final: a run that was lost without one goes on when it is resumed, and none of
        # these files may show it.
        has_exit = stamp[STAMPED.index("exit.json")] > 0
        return known is not None and known[0] == stamp and has_exit and known[1].state.has_ended

    def _read(self, name: str) -> RunRow | None:
        return read_row(RunStore(self.root / name))


def read_row(run: RunStore) -> RunRow | None:
    """One run; None where its folder is no run (any more)."""
    record = run.glance_at_record()
    if record is None:
        return None
    was_resumed = run.attempt_json(2).exists()  # perhaps with other settings
    return RunRow(
        run.id,
        record.kind,
        record.name,
        record.actor,
        record.created_at or 0.0,
        run.state(),
        config_after(record.config, run.read_attempts()) if was_resumed else record.config,
        _newest_figures(_end_of(run.metrics_jsonl)),
        read_labels(run.path),
        _is_consistent(run),
        health_of(run),
    )


def first_and_last_loss(run: RunStore) -> tuple[float, float] | None:
    """From both ends of the curve, however long it is; None where it has no loss yet."""
    last = _newest_figures(_end_of(run.metrics_jsonl))["loss"]
    first = next((row["loss"] for row in _beginning(run) if isinstance(row.get("loss"), int | float)), None)
    return None if first is None or last is None else (first, last)


def points_at_both_ends(run: RunStore) -> list[dict[str, Any]]:
    """The first and the last points of its curves, however long they are; empty before there are any."""
    rows = [*_beginning(run), *map(_object, _end_of(run.metrics_jsonl).split(b"\n"))]
    return [row for row in rows if row]


def _beginning(run: RunStore) -> list[dict[str, Any]]:
    try:
        with open_regular(run.metrics_jsonl, follow=False) as file:
            return list(map(_object, file.read(TAIL_BYTES).split(b"\n")))
    except OSError:
        return []


def filtered(
    rows: Iterable[RunRow], text: str = "", states: Sequence[str] = (), tags: Sequence[str] = ()
) -> list[RunRow]:
    """Rows whose id, name, kind, note, tags or config hold every word of `text`, in one of `states`, with all of `tags`."""
    words = text.lower().split()

    def matches(row: RunRow) -> bool:
        if (states and row.state.state not in states) or not set(tags) <= set(row.labels.tags):
            return False
        haystack = " ".join(
            [
                row.id,
                row.name or "",
                row.kind,
                row.labels.note,
                *row.labels.tags,
                json.dumps(row.config, ensure_ascii=False),
            ]
        ).lower()
        return all(word in haystack for word in words)

    return [row for row in rows if matches(row)]


def config_differences(configs: Sequence[dict[str, Any]]) -> dict[str, list[Any]]:
    """Key → its value in each config, for the keys that are not the same in all; `ABSENT` where one has none."""
    keys = dict.fromkeys(key for config in configs for key in config)
    sides = {key: [config.get(key, ABSENT) for config in configs] for key in keys}
    return {key: values for key, values in sides.items() if not all(_same(values[0], value) for value in values[1:])}


def _same(one: Any, other: Any) -> bool:
    return one is other or (ABSENT not in (one, other) and same_value(one, other))


def _end_of(path: Path) -> bytes:
    try:
        with open_regular(path, follow=False) as file:
            size_bytes = file.seek(0, 2)
            file.seek(max(0, size_bytes - TAIL_BYTES))
            return file.read(TAIL_BYTES)
    except OSError:
        return b""


def _newest_figures(points: bytes) -> dict[str, float | None]:
    """The newest value of each figure, from the few lines that hold them: of a thousand runs not every line is read."""
    rows: dict[int, dict[str, Any]] = {}
    found: dict[str, float | None] = dict.fromkeys(FIGURES)
    for name in FIGURES:
        end, word = len(points), f'"{name}"'.encode()
        while found[name] is None and (place := points.rfind(word, 0, end)) >= 0:
            start = points.rfind(b"\n", 0, place) + 1
            if start not in rows:
                rows[start] = _object(points[start:].partition(b"\n")[0])
            found[name] = last_value([rows[start]], name)
            end = start
    return found


def _object(line: bytes) -> dict[str, Any]:
    """Empty for a line that the file's end begins in, or that is being written."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return row if isinstance(row, dict) else {}


def _is_consistent(run: RunStore) -> bool | None:
    """What the rank report says first; the rest of it is a record of every layer."""
    try:
        with open_regular(run.rank_report_json, follow=False) as file:
            is_said, found = consistency_in(file.read(HEAD_BYTES))
    except OSError:
        return None
    if is_said:
        return found
    found = (read_json(run.rank_report_json, MAX_REPORT_BYTES) or {}).get("is_consistent")
    return found if isinstance(found, bool) else None


def _names(root: Path) -> list[str]:
    """What may be a run below `root`, the newest first."""
    try:
        return sorted((path.name for path in root.iterdir()), reverse=True)
    except OSError:
        return []


def _stamp(path: str) -> tuple[int, ...]:
    """Changes whenever a file that a row is made of does. Of texts: to make a `Path` costs more than to ask for its time."""
    return tuple(_changed_at(f"{path}/{name}") for name in STAMPED)


def _changed_at(path: str) -> int:
    try:
        return os.stat(path).st_mtime_ns  # noqa: PTH116 - of thousands
    except OSError:
        return 0
