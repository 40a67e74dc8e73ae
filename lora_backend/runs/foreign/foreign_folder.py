"""A folder of a training that was not started here: read, and never written.

It is the output folder of transformers' Trainer, or of what is built on it (TRL, axolotl, LLaMA-Factory), one of its
checkpoints, an adapter, or a run of ours that was copied from elsewhere. Its files may hold anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

import numpy as np

from lora_backend.errors import RunError
from lora_backend.i18n import N_, Message
from lora_backend.runs.checkpoints.manifest import CURVES, step_of
from lora_backend.runs.foreign.trainer_state import (
    Training,
    read_log,
    read_object,
    read_state,
    readable,
    text_of,
    unreadable,
)
from lora_backend.runs.record.curves import Column, read_columns
from lora_backend.runs.record.documents import RunRecord
from lora_backend.runs.record.run_store import RunStore
from lora_backend.runs.record.states import RunState
from lora_backend.runs.record.unlinked import links_of, refuse_links
from lora_backend.symlinks import LinkRefusedError, is_unlinked_file, is_unlinked_folder, links_below, refuse_ways_out
from lora_backend.verification.adapter_folder import adapter_within

TRAINER_STATE, TRAINER_LOG, ADAPTER_CONFIG, RUN_JSON = (
    "trainer_state.json",
    "trainer_log.jsonl",
    "adapter_config.json",
    "run.json",
)
MOST_NAMED = 5


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
    run: RunStore | None = None
    """Where it is a run of ours."""
    state: RunState | None = None
    """Of such a run, as its files and this machine's processes say."""
    record: RunRecord | None = None
    """Its `run.json`."""


def open_folder(path: Path, roots: tuple[Path, ...] = ()) -> FoundFolder:
    """What is in `path`. Raises `RunError` or `LinkRefusedError` where it cannot be read or holds no training.

    In a run of ours no link is followed; in another folder those that stay within `roots` (or within it) are, for a
    snapshot in the hub's cache consists of them.
    """
    try:
        if not path.exists():
            raise RunError(N_("There is no folder {path}. Check the path."), path=str(path))
        if not path.is_dir():
            raise RunError(N_("{path} is a file. Name the folder that it is in."), path=str(path))
        path = path.resolve()
        return _open_run(path) if (path / RUN_JSON).is_file() else _open_training(path, (path, *roots))
    except LinkRefusedError:
        raise
    except OSError as error:
        raise unreadable(path, error) from error


# ------------------------------------------------------------------------------------ a run of ours


def _open_run(path: Path) -> FoundFolder:
    run = RunStore(path)
    if run.run_json.is_symlink():
        refuse_links(path)
    read_object(run.run_json)  # says what is wrong with a file that is half copied
    record = run.read_record()
    state, links = run.state(), links_of(path)
    checkpoints = tuple(found for found in _checkpoints(run.checkpoints) if not links_below(found.path))
    model = text_of(record.config.get("model_name"))
    return FoundFolder(
        path=path,
        title=text_of(record.name) or PurePosixPath(model or "").name or path.name,
        base_model=model,
        step=state.step,
        total_steps=state.total_steps,
        epoch=state.epoch,
        runtime_s=_took(state),
        columns=read_columns(run.metrics_jsonl),
        source=run.metrics_jsonl if is_unlinked_file(run.metrics_jsonl) else None,
        adapter=_adapter_of(run.adapter, checkpoints) if links_of(path, "adapter") is None else None,
        checkpoints=checkpoints,
        problems=() if links is None else (links,),
        run=run,
        state=state,
        record=record,
    )


def _took(state: RunState) -> float | None:
    begin, end = state.started_at, state.ended_at
    return None if begin is None or end is None else max(end - begin, 0.0)


# ------------------------------------------------------------------------- a folder of transformers' kind


def _open_training(path: Path, roots: tuple[Path, ...]) -> FoundFolder:
    problems: list[Message] = []
    refuse_ways_out(path, roots)
    checkpoints = tuple(found for found in _checkpoints(path) if _stays_within(found.path, roots, problems))
    training = _newest_training(path, checkpoints, problems)
    adapter = _adapter_of(path, checkpoints)
    if training is None and adapter is None:
        raise _nothing_here(path, problems)
    own = readable(adapter / ADAPTER_CONFIG, problems) if adapter else None
    found = FoundFolder(
        path=path,
        title=f"{path.parent.name}/{path.name}" if step_of(path) is not None else path.name,
        base_model=text_of((own or {}).get("base_model_name_or_path")),
        adapter=adapter,
        checkpoints=checkpoints,
        problems=tuple(problems),
    )
    if training is None:
        return _of_our_checkpoint(found)
    return replace(
        found,
        step=training.step,
        total_steps=training.total_steps,
        epoch=training.epoch,
        runtime_s=training.runtime_s,
        best_metric=training.best_metric,
        best_checkpoint=training.best_checkpoint,
        columns=dict(training.columns),
        source=training.source,
    )


def _of_our_checkpoint(found: FoundFolder) -> FoundFolder:
    """With the curves that a checkpoint of a run of ours keeps; those of earlier versions have none."""
    step, source = step_of(found.path), found.path / CURVES
    if step is None or not is_unlinked_file(source):
        return replace(found, step=step)
    columns = read_columns(source)
    epochs = [float(epoch) for epoch in columns.get("epoch", ()) if not np.isnan(epoch)]
    return replace(found, step=step, epoch=epochs[-1] if epochs else None, columns=columns, source=source)


def _stays_within(checkpoint: Path, roots: tuple[Path, ...], problems: list[Message]) -> bool:
    try:
        refuse_ways_out(checkpoint, roots)
    except LinkRefusedError as error:
        problems.append(error.message)
        return False
    return True


def _newest_training(path: Path, checkpoints: Sequence[FoundCheckpoint], problems: list[Message]) -> Training | None:
    """The file that has come furthest: at the top, in the newest checkpoint that can be read, or the log beside it.

    At the top a Trainer leaves its state at the end only, and a resumed one leaves the old state there.
    """
    newest = read_state(path / TRAINER_STATE, problems)
    for checkpoint in reversed(checkpoints):
        if newest and checkpoint.step <= _how_far(newest):
            break
        if further := read_state(checkpoint.path / TRAINER_STATE, problems):
            newest = max(further, newest or further, key=_how_far)
            break
    log = read_log(path / TRAINER_LOG, problems)
    if log is None or newest is None:
        return log or newest
    if _how_far(log) <= _how_far(newest):
        return newest
    return replace(log, best_metric=newest.best_metric, best_checkpoint=newest.best_checkpoint)


def _how_far(training: Training) -> int:
    return training.step or 0


def _checkpoints(folder: Path) -> tuple[FoundCheckpoint, ...]:
    if not is_unlinked_folder(folder):
        return ()
    found = [
        FoundCheckpoint(path, step, path.stat().st_mtime, _is_file(adapter_within(path) / ADAPTER_CONFIG))
        for path in folder.iterdir()
        if (step := step_of(path)) is not None and path.is_dir()
    ]
    return tuple(sorted(found, key=lambda checkpoint: (checkpoint.step, checkpoint.path.name)))


def _adapter_of(folder: Path, checkpoints: Sequence[FoundCheckpoint]) -> Path | None:
    """The finished adapter, else that of the newest checkpoint which has one."""
    if _is_file(adapter_within(folder) / ADAPTER_CONFIG):
        return adapter_within(folder)
    return next((adapter_within(one.path) for one in reversed(checkpoints) if one.has_adapter), None)


def _nothing_here(path: Path, problems: Sequence[Message]) -> RunError:
    if problems:
        return RunError(problems[0].template, **problems[0].values)
    below = {file.parent.name for name in (TRAINER_STATE, ADAPTER_CONFIG, RUN_JSON) for file in path.glob(f"*/{name}")}
    if below:
        names = ", ".join(sorted(below)[:MOST_NAMED])
        return RunError(
            N_("There is no training in {path}. Name one of the folders below it: {names}"), path=str(path), names=names
        )
    return RunError(
        N_(
            "There is no training in {path}: neither trainer_state.json nor an adapter, there or in a checkpoint. Name the output folder of a training."
        ),
        path=str(path),
    )


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a folder that may be listed and not entered
        return False
