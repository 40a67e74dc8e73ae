"""A folder of a training that was not started here: read, and never written.

It is the output folder of transformers' Trainer, or of what is built on it (TRL, axolotl, LLaMA-Factory), one of its
checkpoints, an adapter, or a run of ours that was copied from elsewhere. Its files may hold anything.
"""

from __future__ import annotations

import json
import stat
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from lora_backend.errors import RunError
from lora_backend.i18n import N_, Message
from lora_backend.runs.checkpoints import step_of
from lora_backend.runs.curves import COLUMNS, Column, read_columns
from lora_backend.runs.files import read_jsonl
from lora_backend.runs.folder import RunFolder
from lora_backend.runs.states import RunState

TRAINER_STATE, TRAINER_LOG, ADAPTER_CONFIG, RUN_JSON = (
    "trainer_state.json", "trainer_log.jsonl", "adapter_config.json", "run.json",
)  # fmt: skip
MOST_BYTES = 32 * 2**20
"""Of one file: some two hundred thousand logged steps. What is larger would hold up the dashboard."""
MOST_NAMED = 5
OTHER_NAMES = {"step": ("step", "current_steps"), "learning_rate": ("learning_rate", "lr")}
"""Column → what Trainer, and LLaMA-Factory's `trainer_log.jsonl`, call it."""


@dataclass(frozen=True)
class FoundCheckpoint:
    """A `checkpoint-<step>` of a found folder."""

    path: Path
    step: int
    saved_at: float
    """Seconds since the epoch, as the file system says."""
    has_adapter: bool


@dataclass(frozen=True)
class FoundFolder:
    """What a folder says of the training that it comes from; None where it does not say."""

    path: Path
    title: str
    base_model: str | None = None
    step: int | None = None
    total_steps: int | None = None
    epoch: float | None = None
    runtime_s: float | None = None
    best_metric: float | None = None
    best_checkpoint: str | None = None
    """Its folder's name."""
    columns: dict[str, Column] = field(default_factory=dict)
    source: Path | None = None
    """The file that the curves come from."""
    adapter: Path | None = None
    checkpoints: tuple[FoundCheckpoint, ...] = ()
    """By step, the oldest first."""
    problems: tuple[Message, ...] = ()
    """What could not be read, while the rest could."""
    run: RunFolder | None = None
    """Where it is a run of ours."""
    state: RunState | None = None
    """Of such a run, as its files and this machine's processes say."""
    about: Mapping[str, Any] = field(default_factory=dict)
    """Its `run.json`."""


@dataclass(frozen=True)
class _Training:
    """What one file says of the training."""

    source: Path
    rows: Sequence[Mapping[str, Any]]
    step: int | None
    total_steps: int | None
    epoch: float | None
    best_metric: float | None = None
    best_checkpoint: str | None = None


def open_folder(path: Path) -> FoundFolder:
    """What is in `path`. Raises `RunError`, and nothing else, where it cannot be read or holds no training."""
    try:
        if not path.exists():
            raise RunError(N_("There is no folder {path}. Check the path."), path=str(path))
        if not path.is_dir():
            raise RunError(N_("{path} is a file. Name the folder that it lies in."), path=str(path))
        return _open_run(path) if (path / RUN_JSON).is_file() else _open_training(path)
    except OSError as error:
        raise _unreadable(path, error) from error


# ------------------------------------------------------------------------------------ a run of ours


def _open_run(path: Path) -> FoundFolder:
    run = RunFolder(path)
    _object(run.run_json)  # says what is wrong with a file that is half copied
    about = run.read_run()
    config = about.get("config")
    config = config if isinstance(config, dict) else {}
    state = _judged(run)
    checkpoints = _checkpoints(run.checkpoints)
    model = _text(config.get("model_name"))
    return FoundFolder(
        path=path,
        title=_text(about.get("name")) or PurePosixPath(model or "").name or path.name,
        base_model=model,
        step=_whole(state.step),
        total_steps=_whole(state.total_steps) or None,
        epoch=_finite(state.epoch),
        runtime_s=_took(state),
        columns=read_columns(run.metrics_jsonl),
        source=run.metrics_jsonl if run.metrics_jsonl.is_file() else None,
        adapter=_adapter_of(run.adapter, checkpoints),
        checkpoints=checkpoints,
        run=run,
        state=state,
        about=about,
    )


def _judged(run: RunFolder) -> RunState:
    """The run's state; files that hold anything else than a state leave it lost."""
    try:
        return run.state()
    except (TypeError, ValueError, LookupError, AttributeError, OverflowError):
        return RunState("lost")


def _took(state: RunState) -> float | None:
    begin, end = _finite(state.started_at), _finite(state.ended_at)
    return None if begin is None or end is None else max(end - begin, 0.0)


# ------------------------------------------------------------------------- a folder of transformers' kind


def _open_training(path: Path) -> FoundFolder:
    problems: list[Message] = []
    checkpoints = _checkpoints(path)
    training = _newest_training(path, checkpoints, problems)
    adapter = _adapter_of(path, checkpoints)
    if training is None and adapter is None:
        raise _nothing_here(path, problems)
    own = _readable(adapter / ADAPTER_CONFIG, problems) if adapter else None
    found = FoundFolder(
        path=path,
        title=f"{path.parent.name}/{path.name}" if step_of(path) is not None else path.name,
        base_model=_text((own or {}).get("base_model_name_or_path")),
        adapter=adapter,
        checkpoints=checkpoints,
        problems=tuple(problems),
    )
    if training is None:
        return found
    return replace(
        found,
        step=training.step,
        total_steps=training.total_steps,
        epoch=training.epoch,
        runtime_s=_last(training.rows, "train_runtime"),
        best_metric=training.best_metric,
        best_checkpoint=training.best_checkpoint,
        columns=_columns(training.rows),
        source=training.source,
    )


def _newest_training(path: Path, checkpoints: Sequence[FoundCheckpoint], problems: list[Message]) -> _Training | None:
    """The file that has come furthest: at the top, in the newest checkpoint that can be read, or the log beside it.

    At the top a Trainer leaves its state at the end only, and a resumed one leaves the old state there.
    """
    newest = _trainer_state(path / TRAINER_STATE, problems)
    for checkpoint in reversed(checkpoints):
        if newest and checkpoint.step <= _how_far(newest):
            break
        if further := _trainer_state(checkpoint.path / TRAINER_STATE, problems):
            newest = max(further, newest or further, key=_how_far)
            break
    log = _trainer_log(path / TRAINER_LOG, problems)
    if log is None or newest is None:
        return log or newest
    if _how_far(log) <= _how_far(newest):
        return newest
    return replace(log, best_metric=newest.best_metric, best_checkpoint=newest.best_checkpoint)


def _how_far(training: _Training) -> int:
    return training.step or 0


def _trainer_state(path: Path, problems: list[Message]) -> _Training | None:
    """transformers: `TrainerState.save_to_json` in trainer_callback.py."""
    data = _readable(path, problems)
    if data is None:
        return None
    history = data.get("log_history")
    rows = [row for row in history if isinstance(row, dict)] if isinstance(history, list) else []
    best = _text(data.get("best_model_checkpoint"))
    best_step = _whole(data.get("best_global_step"))
    return _Training(
        source=path,
        rows=rows,
        step=_whole(data.get("global_step")),
        total_steps=_whole(data.get("max_steps")) or None,
        epoch=_finite(data.get("epoch")),
        best_metric=_finite(data.get("best_metric")),
        # The path is the other machine's.
        best_checkpoint=PurePosixPath(best.replace("\\", "/")).name if best else f"checkpoint-{best_step}" if best_step else None,
    )  # fmt: skip


def _trainer_log(path: Path, problems: list[Message]) -> _Training | None:
    """LLaMA-Factory: `LogCallback.on_log` in train/callbacks.py. A resumed training goes on in the same file."""
    if not path.is_file():
        return None
    if path.stat().st_size > MOST_BYTES:
        problems.append(_too_large(path).message)
        return None
    rows: list[dict[str, Any]] = []
    for row in read_jsonl(path):
        step = _number(row.get("current_steps"))
        while rows and _number(rows[-1].get("current_steps")) > step:  # trained anew from here on
            rows.pop()
        rows.append(row)
    if not rows:
        return None
    last = rows[-1]
    return _Training(path, rows, _whole(last.get("current_steps")), _whole(last.get("total_steps")) or None, _finite(last.get("epoch")))  # fmt: skip


def _checkpoints(folder: Path) -> tuple[FoundCheckpoint, ...]:
    if not folder.is_dir():
        return ()
    found = [
        FoundCheckpoint(path, step, path.stat().st_mtime, _is_file(path / ADAPTER_CONFIG))
        for path in folder.iterdir()
        if (step := step_of(path)) is not None and path.is_dir()
    ]
    return tuple(sorted(found, key=lambda checkpoint: (checkpoint.step, checkpoint.path.name)))


def _adapter_of(folder: Path, checkpoints: Sequence[FoundCheckpoint]) -> Path | None:
    """The finished adapter, else that of the newest checkpoint which has one."""
    if _is_file(folder / ADAPTER_CONFIG):
        return folder
    return next((checkpoint.path for checkpoint in reversed(checkpoints) if checkpoint.has_adapter), None)


def _nothing_here(path: Path, problems: Sequence[Message]) -> RunError:
    if problems:
        return RunError(problems[0].template, **problems[0].values)
    below = {file.parent.name for name in (TRAINER_STATE, ADAPTER_CONFIG, RUN_JSON) for file in path.glob(f"*/{name}")}
    if below:
        names = ", ".join(sorted(below)[:MOST_NAMED])
        return RunError(N_("There is no training in {path}. Name one of the folders below it: {names}"), path=str(path), names=names)  # fmt: skip
    return RunError(
        N_("There is no training in {path}: neither trainer_state.json nor an adapter, there or in a checkpoint. Name the output folder of a training."),
        path=str(path),
    )  # fmt: skip


# ------------------------------------------------------------------------------------------ reading


def _readable(path: Path, problems: list[Message]) -> dict[str, Any] | None:
    """The object in `path`; what keeps it from being read goes to `problems`."""
    try:
        return _object(path)
    except RunError as error:
        problems.append(error.message)
        return None


def _object(path: Path) -> dict[str, Any] | None:
    """The JSON object in a regular file; None where there is none. Raises `RunError` for anything else."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # opening a pipe would wait for ever
            return None
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise _unreadable(path, error) from error
    if len(data) > MOST_BYTES:
        raise _too_large(path)
    try:
        loaded = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise RunError(N_("{path} is not whole JSON. Wait until it is written, or copy it again."), path=str(path)) from error  # fmt: skip
    if not isinstance(loaded, dict):
        raise RunError(N_("{path} holds no JSON object. Download or copy it again."), path=str(path))
    return loaded


def _unreadable(path: Path, error: OSError) -> RunError:
    return RunError(N_("{path} cannot be read: {reason}."), path=str(path), reason=error.strerror or str(error))


def _too_large(path: Path) -> RunError:
    return RunError(N_("{path} has more than {limit} MiB, which is too large to be read here."), path=str(path), limit=MOST_BYTES // 2**20)  # fmt: skip


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a folder that may be listed and not entered
        return False


def _columns(rows: Iterable[Mapping[str, Any]]) -> dict[str, Column]:
    names = [OTHER_NAMES.get(column, (column,)) for column in COLUMNS]
    cells = [[_number(next((row[name] for name in aliases if name in row), None)) for aliases in names] for row in rows]
    table = np.array(cells, dtype=np.float64).reshape(-1, len(COLUMNS))
    return {column: table[:, index] for index, column in enumerate(COLUMNS)}


def _last(rows: Sequence[Mapping[str, Any]], name: str) -> float | None:
    return next((value for row in reversed(rows) if (value := _finite(row.get(name))) is not None), None)


def _number(value: object) -> float:
    """A number, or text that is one, as some trainers log it; NaN for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return float("nan")
    try:
        return float(value)
    except (ValueError, OverflowError):
        return float("nan")


def _finite(value: object) -> float | None:
    found = _number(value)
    return found if np.isfinite(found) else None


def _whole(value: object) -> int | None:
    """A count; None for what no counter of steps would say."""
    found = _number(value)
    return int(found) if found.is_integer() and 0 <= found < 2**53 else None


def _text(value: object) -> str | None:
    """Text; half a surrogate pair, which JSON can hold and nothing can show, is written out."""
    return value.encode("utf-8", "backslashreplace").decode("utf-8") if isinstance(value, str) and value else None
