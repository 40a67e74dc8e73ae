"""A run's files, read as their types and written under a lock."""

from __future__ import annotations

from lora_backend.runs.record.run_folder import RunFolder as RunStore
from lora_backend.runs.record.run_folder import list_runs, new_run_id, open_run

__all__ = ["RunStore", "list_runs", "new_run_id", "open_run"]
