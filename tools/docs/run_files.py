"""The JSON Schemas of a run's files, made from their types."""

from __future__ import annotations

import json
from typing import Any

from lora_backend.runs.record.attempts import Attempt
from lora_backend.runs.record.documents import (
    Answer,
    Exit,
    Labels,
    MetricPoint,
    RunRecord,
    SaveRequest,
    Status,
    StopRequest,
)
from lora_backend.runs.record.evaluation_documents import EvaluatedAnswer, EvaluatedRow, EvaluateResult
from lora_backend.runs.record.job_documents import (
    DownloadRequest,
    DownloadResult,
    EvaluateRequest,
    ExportRequest,
    ExportResult,
)
from lora_backend.runs.record.sample_document import Sample
from lora_backend.typed_json import Document
from lora_backend.verification.rank_documents import RankReport

FOLDER = "schemas"
TYPES: dict[str, type[Document]] = {
    "run.json": RunRecord,
    "status.json": Status,
    "attempts.json": Attempt,
    "exit.json": Exit,
    "metrics.jsonl": MetricPoint,
    "rank_report.json": RankReport,
    "answers.jsonl": Answer,
    "samples.jsonl": Sample,
    "labels.json": Labels,
    "stop.request": StopRequest,
    "save.request": SaveRequest,
    "evaluate.config": EvaluateRequest,
    "evaluate.result.json": EvaluateResult,
    "evaluate.rows.jsonl": EvaluatedRow,
    "evaluate.answers.jsonl": EvaluatedAnswer,
    "export.config": ExportRequest,
    "export.result.json": ExportResult,
    "download.config": DownloadRequest,
    "download.result.json": DownloadResult,
}
"""File of a run → its type; of a `.jsonl` that of each line, of `attempts` that of every `<n>.json`; of a job the `config` in
its `run.json`, and its `result.json`."""


def pages() -> dict[str, str]:
    """Name below docs/ → text."""
    return {f"{FOLDER}/{name}.schema.json": _as_text(kind) for name, kind in TYPES.items()}


def _as_text(kind: type[Document]) -> str:
    schema: dict[str, Any] = kind.model_json_schema(mode="serialization")
    written_as = {
        "const": kind.FORMAT,
        "type": "integer",
        "description": "Raised when a reader of an older one would go wrong.",
    }
    of_it = (
        schema if "properties" in schema else schema["$defs"][kind.__name__]
    )  # a type that holds itself is a reference
    of_it["properties"] = {"format": written_as, **of_it["properties"]}
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    return json.dumps(head | schema, ensure_ascii=False, indent=1, default=str) + "\n"
