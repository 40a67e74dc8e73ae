"""From a config to the questions about its data sets, and to what was counted of them before."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from lora_backend.config.accepted_values import takes
from lora_backend.config.schema import KEYS
from lora_backend.data.data_question import DataQuestion
from lora_backend.data.data_report import DataReport
from lora_backend.data.kept_reports import find_report
from lora_backend.errors import DataError
from lora_backend.installation import Installation
from lora_backend.preflight.named_files import NamedModel, NamedRows

T = TypeVar("T")
Count = Callable[[DataQuestion], DataReport]
"""Counts what a model learns of a data set: in the torch process that the dashboard asks, or in this one."""
COUNT_DEADLINE_S = 3600.0
"""Of a set that nobody can read faster: a hundred thousand long chats take minutes."""
SETTINGS = (
    "data_format",
    "data_columns",
    "max_bad_rows",
    "max_length",
    "truncation",
    "train_on",
    "batch_size",
    "val_size",
    "seed",
)
"""Keys of a config that change what is counted."""


def questions_of(
    values: Mapping[str, Any], model: NamedModel | None, sets: Iterable[NamedRows]
) -> dict[NamedRows, DataQuestion]:
    """One for each data set that may be read here. A key with a wrong value, for which the check has words, counts as left out."""
    settings = {
        key: values[key] if key in values and takes(key, values[key]) else KEYS[key].default
        for key in SETTINGS
        if key in KEYS
    }
    said = {key: value for key, value in settings.items() if value is not None}
    folder = tokenizer_folder(model)
    return {
        rows: DataQuestion(str(rows.path), rows.named.split, folder, **said) for rows in sets if rows.path is not None
    }


def tokenizer_folder(model: NamedModel | None) -> str | None:
    """Where a model's tokenizer is; None where it is not on this machine."""
    folder: Path | None = None if model is None else model.path
    return str(folder) if folder is not None and model is not None and folder.is_dir() else None


def known_reports(
    questions: Mapping[NamedRows, DataQuestion], installation: Installation
) -> dict[NamedRows, DataReport]:
    """What was counted before of data sets as they are now."""
    found = {}
    for rows, question in questions.items():
        try:
            report = find_report(question, rows.sha256(), installation)
        except (DataError, OSError):
            continue
        if report is not None:
            found[rows] = report
    return found


def by_name(found: Mapping[NamedRows, T]) -> dict[str, T]:
    """The same by how the config names each data set."""
    return {name_of(rows): one for rows, one in found.items()}


def name_of(rows: NamedRows) -> str:
    """Of a data set, as the config has it."""
    return rows.named.path + (f" ({rows.named.split})" if rows.named.split else "")
