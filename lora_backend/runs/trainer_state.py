"""What a trainer that is not ours wrote of a training: transformers' `trainer_state.json`, LLaMA-Factory's log.

The files may hold anything; each is read as far as it can be, and what cannot be read is said.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from lora_backend.bounded import read_json, too_large
from lora_backend.errors import FileRefusedError, RunError
from lora_backend.i18n import N_, Message
from lora_backend.runs.curves import COLUMNS, Column
from lora_backend.runs.files import read_jsonl

MOST_BYTES = 32 * 2**20
"""Of one file: some two hundred thousand logged steps. What is larger would hold up the dashboard."""
OTHER_NAMES = {"step": ("step", "current_steps"), "learning_rate": ("learning_rate", "lr")}
"""Column → what Trainer, and LLaMA-Factory's `trainer_log.jsonl`, call it."""


@dataclass(frozen=True)
class Training:
    """What one file says of the training."""

    source: Path
    rows: Sequence[Mapping[str, Any]]
    step: int | None
    total_steps: int | None
    epoch: float | None
    best_metric: float | None = None
    best_checkpoint: str | None = None


def read_state(path: Path, problems: list[Message]) -> Training | None:
    """transformers: `TrainerState.save_to_json` in trainer_callback.py."""
    data = readable(path, problems)
    if data is None:
        return None
    history = data.get("log_history")
    rows = [row for row in history if isinstance(row, dict)] if isinstance(history, list) else []
    best = text_of(data.get("best_model_checkpoint"))
    best_step = whole(data.get("best_global_step"))
    return Training(
        source=path,
        rows=rows,
        step=whole(data.get("global_step")),
        total_steps=whole(data.get("max_steps")) or None,
        epoch=finite(data.get("epoch")),
        best_metric=finite(data.get("best_metric")),
        # The path is the other machine's.
        best_checkpoint=PurePosixPath(best.replace("\\", "/")).name if best else f"checkpoint-{best_step}" if best_step else None,
    )  # fmt: skip


def read_log(path: Path, problems: list[Message]) -> Training | None:
    """LLaMA-Factory: `LogCallback.on_log` in train/callbacks.py. A resumed training goes on in the same file."""
    if not path.is_file():
        return None
    if path.stat().st_size > MOST_BYTES:
        problems.append(too_large(path, MOST_BYTES).message)
        return None
    rows: list[dict[str, Any]] = []
    for row in read_jsonl(path, follow=True):
        step = _number(row.get("current_steps"))
        while rows and _number(rows[-1].get("current_steps")) > step:  # trained anew from here on
            rows.pop()
        rows.append(row)
    if not rows:
        return None
    last = rows[-1]
    return Training(path, rows, whole(last.get("current_steps")), whole(last.get("total_steps")) or None, finite(last.get("epoch")))  # fmt: skip


def readable(path: Path, problems: list[Message]) -> dict[str, Any] | None:
    """The object in `path`; what keeps it from being read goes to `problems`."""
    try:
        return read_object(path)
    except RunError as error:
        problems.append(error.message)
        return None


def read_object(path: Path) -> dict[str, Any] | None:
    """The JSON object in a file; None where there is none. Raises `RunError` for anything else."""
    try:
        loaded = read_json(path, MOST_BYTES)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None
    except FileRefusedError as error:
        raise RunError(error.message.template, **error.message.values) from error
    except OSError as error:
        raise unreadable(path, error) from error
    except ValueError as error:
        raise RunError(N_("{path} is not whole JSON. Wait until it is written, or copy it again."), path=str(path)) from error  # fmt: skip
    if not isinstance(loaded, dict):
        raise RunError(N_("{path} holds no JSON object. Download or copy it again."), path=str(path))
    return loaded


def unreadable(path: Path, error: OSError) -> RunError:
    """The sentence for a file or folder that the system does not let be read."""
    return RunError(N_("{path} cannot be read: {reason}."), path=str(path), reason=error.strerror or str(error))


def columns_of(rows: Iterable[Mapping[str, Any]]) -> dict[str, Column]:
    """Logged rows as the columns of our own curves, NaN where a row lacks a figure."""
    names = [OTHER_NAMES.get(column, (column,)) for column in COLUMNS]
    cells = [[_number(next((row[name] for name in aliases if name in row), None)) for aliases in names] for row in rows]
    table = np.array(cells, dtype=np.float64).reshape(-1, len(COLUMNS))
    return {column: table[:, index] for index, column in enumerate(COLUMNS)}


def last_value(rows: Sequence[Mapping[str, Any]], name: str) -> float | None:
    """The newest finite value of a figure."""
    return next((value for row in reversed(rows) if (value := finite(row.get(name))) is not None), None)


def _number(value: object) -> float:
    """A number, or text that is one, as some trainers log it; NaN for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return float("nan")
    try:
        return float(value)
    except (ValueError, OverflowError):
        return float("nan")


def finite(value: object) -> float | None:
    """A number, or text that is one; None for anything else."""
    found = _number(value)
    return found if np.isfinite(found) else None


def whole(value: object) -> int | None:
    """A count; None for what no counter of steps would say."""
    found = _number(value)
    return int(found) if found.is_integer() and 0 <= found < 2**53 else None


def text_of(value: object) -> str | None:
    """Text; half a surrogate pair, which JSON can hold and nothing can show, is written out."""
    return value.encode("utf-8", "backslashreplace").decode("utf-8") if isinstance(value, str) and value else None
