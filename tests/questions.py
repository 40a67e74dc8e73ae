"""A file of questions, read as the trainer reads it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lora_backend.data.question_rows import parse_questions, read_bytes


def read_questions(path: Path) -> list[dict[str, Any]]:
    """Its rows."""
    return parse_questions(read_bytes(path), path.name)
