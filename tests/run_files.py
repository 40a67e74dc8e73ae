"""A run's files as a test wants them: made of keywords, changed key by key, read as dicts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lora_backend.atomic import write_atomic, write_json
from lora_backend.installation import this_installation
from lora_backend.runs.record import transitions
from lora_backend.runs.record.attempts import Attempt
from lora_backend.runs.record.documents import AttemptStatus, Exit
from lora_backend.runs.record.locked_files import append_jsonl, read_json, read_jsonl
from lora_backend.runs.record.logs import read_log
from lora_backend.runs.record.process_identity import ProcessIdentity
from lora_backend.runs.record.run_store import RunStore, new_run_id
from lora_backend.runs.record.transitions import NewRun


def make_run(root: Path, *, path: Path | None = None, attempt: Mapping[str, Any] | None = None, **new: Any) -> RunStore:
    """The folder of a new run below `root`, or at `path`."""
    first = None if attempt is None else Attempt.read(attempt)
    return transitions.create(path or root / new_run_id(), NewRun(attempt=first, **new), this_installation())


def process_of(run: RunStore, role: str) -> ProcessIdentity | None:
    """The `supervisor`, its `child`, the `trainer` or the `launcher` that the run's status names."""
    found = getattr(run.read_status().attempt, role)
    assert found is None or isinstance(found, ProcessIdentity)
    return found


# ------------------------------------------------------------------------------------------------ writing


def set_status(run: RunStore, **changes: Any) -> None:
    """Set fields of the status, whether of the run or of its newest attempt."""
    with run.changing_status() as status:
        for name, value in changes.items():
            setattr(status.attempt if name in AttemptStatus.model_fields else status, name, value)


def end_run(run: RunStore, state: str, **how: Any) -> None:
    """End it."""
    transitions.end(run, Exit.of(state, **how))


def start_again(run: RunStore, state: Any, *, after: int | None = None, **facts: Any) -> int:
    """Begin another attempt of a run that has ended."""
    return transitions.begin_attempt(run, state, Attempt.read(facts), after=after)


def add_start(run: RunStore, **facts: Any) -> int:
    """Write down another attempt, whatever the run is at."""
    return transitions.add_attempt(run, Attempt.read(facts))


def set_attempt(run: RunStore, **changes: Any) -> None:
    """Change keys of the newest attempt's file, to whatever value."""
    with run.changing_attempt() as attempt:
        number = attempt.number
    path = run.attempt_json(number)
    write_json(path, (read_json(path) or {}) | changes)


def add_point(run: RunStore, row: Mapping[str, Any]) -> None:
    """A line of the curves, whole or not."""
    append_jsonl(run.metrics_jsonl, dict(row))


def put_answers(run: RunStore, rows: Sequence[Mapping[str, object]]) -> None:
    """`answers.jsonl` with these lines, whole or not."""
    write_atomic(
        run.answers_jsonl, "".join(json.dumps({"format": 1, **row}, ensure_ascii=False) + "\n" for row in rows)
    )


# ------------------------------------------------------------------------------------------------ reading


def record_of(run: RunStore) -> dict[str, Any]:
    """`run.json`."""
    return run.read_record().to_json()


def status_of(run: RunStore) -> dict[str, Any]:
    """All that the status says, of run and attempt side by side; empty without the file."""
    if read_json(run.status_json) is None:
        return {}
    found = run.read_status().to_json()
    return {**found, **found.pop("attempt")}


def attempt_of(run: RunStore) -> dict[str, Any]:
    """The newest attempt; empty without any."""
    found = run.read_attempt()
    return found.to_json() if found.number else {}


def points_of(run: RunStore) -> list[dict[str, Any]]:
    """All points of the curves, in order; half a line is left out."""
    return list(read_jsonl(run.metrics_jsonl))


def answers_of(run: RunStore) -> list[dict[str, Any]]:
    """The lines of `answers.jsonl`."""
    return list(read_jsonl(run.answers_jsonl))


def log_tail(run: RunStore, max_bytes: int = 32_000) -> str:
    """The end of its log, from a whole line on."""
    return read_log(run.train_log, max_bytes=max_bytes).text


def last_lines(run: RunStore) -> list[str]:
    """The log's last lines that were kept with its end."""
    ended = run.read_exit()
    return ended.log if ended else []
