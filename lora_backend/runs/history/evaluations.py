"""The evaluations of a run's adapter: jobs of their own beside it."""

from __future__ import annotations

from contextlib import suppress

from lora_backend.runs.record.evaluation_documents import EvaluatedAnswer
from lora_backend.runs.record.locked_files import read_jsonl
from lora_backend.runs.record.run_store import RunStore, list_runs


def evaluations_of(run: RunStore) -> list[RunStore]:
    """The jobs that evaluate, or have evaluated, the adapter or a checkpoint of `run`, the newest first."""
    return [job for job in list_runs(run.path.parent) if _is_of(job, run.id)]


def _is_of(job: RunStore, run_id: str) -> bool:
    record = job.glance_at_record()
    return record is not None and record.kind == "evaluate" and record.config.get("of_run") == run_id


def answers_in(job: RunStore) -> list[EvaluatedAnswer]:
    """What its columns answered to questions and prompts; lines that are not whole are left out."""
    found = []
    for row in read_jsonl(job.answers_jsonl):
        with suppress(ValueError):
            found.append(EvaluatedAnswer.read(row))
    return found
