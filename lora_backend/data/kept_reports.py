"""What was counted of data sets, kept by content: the same rows, tokenizer and settings are counted once."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from lora_backend.atomic import write_json
from lora_backend.bounded import read_json
from lora_backend.data.data_question import DataQuestion
from lora_backend.data.data_report import DataReport, report_of
from lora_backend.installation import Installation

MOST_KEPT = 2000
"""Files of some kilobytes each; those that nobody asked for the longest go first."""


def find_report(question: DataQuestion, sha256: str, installation: Installation) -> DataReport | None:
    """What was counted of rows with this hash; None where nobody has."""
    path = _place(question, sha256, installation)
    try:
        found = report_of(read_json(path))
    except (OSError, ValueError, AttributeError):
        return None
    with suppress(OSError):
        os.utime(path)
    return found if found.sha256 == sha256 else None


def keep_report(question: DataQuestion, report: DataReport, installation: Installation) -> None:
    """Keep what was counted, if the disk takes it."""
    path = _place(question, report.sha256, installation)
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, report.to_json())
        _sweep(path.parent)


def _place(question: DataQuestion, sha256: str, installation: Installation) -> Path:
    return installation.cache / "data_reports" / f"{question.key(sha256)}.json"


def _sweep(folder: Path) -> None:
    kept = sorted(folder.glob("*.json"), key=lambda path: path.stat().st_mtime)
    for path in kept[: max(len(kept) - MOST_KEPT, 0)]:
        path.unlink(missing_ok=True)
