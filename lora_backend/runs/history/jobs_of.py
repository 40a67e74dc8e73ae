"""The jobs that were started for a run: its evaluations, its exports."""

from __future__ import annotations

from collections.abc import Iterable

from lora_backend.runs.history.run_table import RunRow

OF_RUN = "of_run"


def jobs_of(run_id: str, rows: Iterable[RunRow]) -> list[RunRow]:
    """Those of `rows` that are jobs of this run, in their order."""
    return [row for row in rows if row.kind != "train" and row.config.get(OF_RUN) == run_id]
