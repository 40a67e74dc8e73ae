"""The name under which callers that read dicts still know a run; goes with `old_access.py`."""

from __future__ import annotations

from lora_backend.runs.record.documents import STOP_DEADLINE_S
from lora_backend.runs.record.run_store import LEAST_ROOM_BYTES, RUN_ID, RunStore, list_runs, new_run_id, open_run
from lora_backend.runs.record.states import ENDED, RunState

RunFolder = RunStore
__all__ = [
    "ENDED",
    "LEAST_ROOM_BYTES",
    "RUN_ID",
    "STOP_DEADLINE_S",
    "RunFolder",
    "RunState",
    "list_runs",
    "new_run_id",
    "open_run",
]
