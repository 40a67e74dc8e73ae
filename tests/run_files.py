"""A run's files as a test wants them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from lora_backend.atomic import write_atomic
from lora_backend.runs.record.process_identity import ProcessIdentity
from lora_backend.runs.record.run_store import RunStore


def process_of(run: RunStore, role: str) -> ProcessIdentity | None:
    """The `supervisor`, its `child`, the `trainer` or the `launcher` that the run's status names."""
    found = getattr(run.read_status().attempt, role)
    assert found is None or isinstance(found, ProcessIdentity)
    return found


def put_answers(run: RunStore, rows: Sequence[Mapping[str, object]]) -> None:
    """`answers.jsonl` with these lines, whole or not."""
    write_atomic(
        run.answers_jsonl, "".join(json.dumps({"format": 1, **row}, ensure_ascii=False) + "\n" for row in rows)
    )
