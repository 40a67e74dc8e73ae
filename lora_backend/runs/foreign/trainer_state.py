"""What a trainer that is not ours wrote of a training: transformers' `trainer_state.json`, LLaMA-Factory's log.

The files may hold anything; each is read as far as it can be, and what cannot be read is said.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np

from lora_backend import outside
from lora_backend.bounded import read_json, too_large
from lora_backend.errors import FileRefusedError, RunError
from lora_backend.i18n import N_, Message
from lora_backend.runs.record.curves import COLUMNS, Column
from lora_backend.runs.record.locked_files import read_jsonl

Kind = Literal["state", "log"]
INLINE_BYTES = 2**20
MOST_BYTES = 32 * 2**20
"""Of one file: some two hundred thousand logged steps. What is larger would hold up the dashboard."""
OTHER_NAMES = {"step": ("step", "current_steps"), "learning_rate": ("learning_rate", "lr")}
"""Column → what Trainer, and LLaMA-Factory's `trainer_log.jsonl`, call it."""


@dataclass(frozen=True)
class Training:
    """What one file says of the training."""

    source: Path
    columns: Mapping[str, Column]
    """Logged figures as the columns of our own curves."""
    step: int | None
    total_steps: int | None
    epoch: float | None
    runtime_s: float | None = None
    best_metric: float | None = None
    best_checkpoint: str | None = None

    def to_json(self) -> dict[str, Any]:
        packed = {name: base64.b64encode(column.tobytes()).decode() for name, column in self.columns.items()}
        plain = {field.name: getattr(self, field.name) for field in fields(self)}
        return {**plain, "source": str(self.source), "columns": packed}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Training:
        columns = {name: np.frombuffer(base64.b64decode(packed)) for name, packed in data["columns"].items()}
        return cls(**{**data, "source": Path(data["source"]), "columns": columns})


def read_state(path: Path, problems: list[Message]) -> Training | None:
    """transformers: `TrainerState.save_to_json` in trainer_callback.py."""
    return _training(path, "state", problems)


def read_log(path: Path, problems: list[Message]) -> Training | None:
    """LLaMA-Factory: `LogCallback.on_log` in train/callbacks.py. A resumed training goes on in the same file."""
    return _training(path, "log", problems)


def _training(path: Path, kind: Kind, problems: list[Message]) -> Training | None:
    """What keeps it from being read goes to `problems`."""
    try:
        found = path.stat()
        return _known(path, kind, (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        problems.append(unreadable(path, error).message)
    except RunError as error:
        problems.append(error.message)
    return None


@lru_cache(maxsize=16)
def _known(path: Path, kind: Kind, stamp: tuple[int, ...]) -> Training | None:
    """Read once until the file changes, for a page asks again at every click; a large one in a process of its own."""
    if stamp[2] <= INLINE_BYTES:
        return PARSERS[kind](path)
    try:
        found = outside.call("lora_backend.runs.foreign.trainer_state:training_as_json", str(path), kind)
    except outside.OutsideError as error:
        raise RunError(
            N_("{path} could not be read completely: {reason} Open another checkpoint's folder."),
            path=str(path),
            reason=error.message,
        ) from error
    return None if found is None else Training.from_json(found)


def training_as_json(path: str, kind: Kind) -> dict[str, Any] | None:
    """What the process of its own does."""
    found = PARSERS[kind](Path(path))
    return None if found is None else found.to_json()


def _state(path: Path) -> Training | None:
    data = read_object(path)
    if data is None:
        return None
    history = data.get("log_history")
    rows = [row for row in history if isinstance(row, dict)] if isinstance(history, list) else []
    best = text_of(data.get("best_model_checkpoint"))
    best_step = whole(data.get("best_global_step"))
    return Training(
        source=path,
        columns=columns_of(rows),
        step=whole(data.get("global_step")),
        total_steps=whole(data.get("max_steps")) or None,
        epoch=finite(data.get("epoch")),
        runtime_s=last_value(rows, "train_runtime"),
        best_metric=finite(data.get("best_metric")),
        # The path is the other machine's.
        best_checkpoint=PurePosixPath(best.replace("\\", "/")).name
        if best
        else f"checkpoint-{best_step}"
        if best_step
        else None,
    )


def _log(path: Path) -> Training | None:
    if not path.is_file():
        return None
    if path.stat().st_size > MOST_BYTES:
        refused = too_large(path, MOST_BYTES).message
        raise RunError(refused.template, **refused.values)
    rows: list[dict[str, Any]] = []
    for row in read_jsonl(path, follow=True):
        step = _number(row.get("current_steps"))
        while rows and _number(rows[-1].get("current_steps")) > step:  # trained anew from here on
            rows.pop()
        rows.append(row)
    if not rows:
        return None
    last = rows[-1]
    return Training(
        source=path,
        columns=columns_of(rows),
        step=whole(last.get("current_steps")),
        total_steps=whole(last.get("total_steps")) or None,
        epoch=finite(last.get("epoch")),
        runtime_s=last_value(rows, "train_runtime"),
    )


PARSERS: dict[Kind, Callable[[Path], Training | None]] = {"state": _state, "log": _log}


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
        raise RunError(
            N_("{path} is not complete JSON. Wait until it is written, or copy it again."), path=str(path)
        ) from error
    if not isinstance(loaded, dict):
        raise RunError(N_("{path} contains no JSON object. Download or copy it again."), path=str(path))
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
