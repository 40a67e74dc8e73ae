"""Whether a key takes a value, asked of the schema alone."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from lora_backend.config.schema import KEYS, TrainingConfig

LARGEST = 2**63 - 1
"""The largest whole number that any of the libraries behind takes."""


def takes(key: str, value: Any) -> bool:
    """Whether a key of ours takes the value."""
    if unreadable(key, value) is not None:
        return False
    try:
        TrainingConfig.model_validate({"model_name": "m", key: value})
    except ValidationError:
        return False
    return True


def unreadable(key: str, value: Any) -> str | None:
    """The kind of error of what the schema cannot even be held against; None for all else."""
    if key not in KEYS:
        return "extra_forbidden"
    if isinstance(value, int) and abs(value) > LARGEST:
        return "less_than"
    return "string_unicode" if isinstance(value, str) and not _is_unicode(value) else None


def _is_unicode(text: str) -> bool:
    """Whether it can be written to a file: half a surrogate pair cannot."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
