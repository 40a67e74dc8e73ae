"""For how long a run has held its GPUs, over all of its starts."""

from __future__ import annotations

from lora_backend.runs.record.attempts import Attempt
from lora_backend.runs.record.documents import Exit
from lora_backend.runs.record.locked_files import read_json
from lora_backend.runs.record.run_store import RunStore
from lora_backend.runs.record.states import RunState


def gpu_seconds(run: RunStore, state: RunState) -> float:
    """Seconds of each start times the GPUs of its plan, on all machines; 0 on the CPU, and where no plan is known."""
    attempts = run.read_attempts()
    return sum(
        len(one.gpus) * max(one.num_nodes, 1) * (start_seconds(run, one, state if one is attempts[-1] else None) or 0.0)
        for one in attempts
    )


def start_seconds(run: RunStore, attempt: Attempt, now: RunState | None) -> float | None:
    """From the moment a start's trainer began to its end, without its time in the queue; None where one of them is not known,
    as of earlier starts in older folders.

    `now`: the run's state, where this is its newest start.
    """
    if now is not None:
        begin, end = now.started_at, now.ended_at
    else:
        data = read_json(run.attempt_exit_json(attempt.number))
        ended = Exit.read(data) if data is not None else Exit()
        begin, end = ended.started_at, ended.ended_at
    return max(end - begin, 0.0) if begin is not None and end is not None else None
