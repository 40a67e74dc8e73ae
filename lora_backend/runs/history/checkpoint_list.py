"""A run's checkpoints as a list for people, and the steps at which its curve is marked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lora_backend.config.best_figure import BestBy
from lora_backend.runs.checkpoints.manifest import MANIFEST, checkpoints_of, step_of, verified
from lora_backend.runs.history.trash import disk_bytes
from lora_backend.runs.record.curves import Column, points
from lora_backend.runs.record.run_store import RunStore


@dataclass(frozen=True)
class Checkpoint:
    """One checkpoint as it is on the disk."""

    step: int
    saved_at: float | None
    """When its manifest was written, in seconds since the epoch; None without one."""
    size_bytes: int
    loss: float | None
    """The training loss that was logged last until there."""
    eval_loss: float | None
    """Of an evaluation at that very step."""
    eval_token_accuracy: float | None
    """Of the same."""
    problems: tuple[str, ...]
    """What is wrong with its files; empty where all are there."""

    @property
    def name(self) -> str:
        return f"checkpoint-{self.step}"

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, **asdict(self), "problems": list(self.problems)}


def list_checkpoints(run: RunStore, columns: Mapping[str, Column], *, hashes: bool = False) -> list[Checkpoint]:
    """All of them, the oldest first. `columns` are the run's points.

    Files are held against the manifest's names and sizes; with `hashes`, byte for byte, which takes its time.
    """
    return [_checkpoint(path, columns, hashes=hashes) for path in checkpoints_of(run)]


@dataclass(frozen=True)
class Best:
    """The best of a run's checkpoints, and why it counts as that."""

    checkpoint: Checkpoint
    by: BestBy
    is_the_adapter: bool
    """Whether the run's adapter is that one's, or will be."""


def best_of(run: RunStore, found: Sequence[Checkpoint]) -> Best | None:
    """That of the best evaluation, by the figure that the run's config names, where two or more were evaluated."""
    config = run.config_as_changed()
    by, ends_with_best = BestBy.of(config), config.get("load_best_model_at_end") is True
    taken = run.read_attempt().adapter_step if ends_with_best else None
    figures = {one: value for one in found if (value := getattr(one, by.column)) is not None}
    if len(figures) < 2:
        return None
    best = min(figures, key=lambda one: (one.step != taken, by.score(figures[one])))
    return Best(best, by, ends_with_best)


def saved_steps(run: RunStore) -> list[int]:
    """The steps of all of them, without a look into any."""
    return [step for path in checkpoints_of(run) if (step := step_of(path)) is not None]


def resumed_steps(run: RunStore) -> list[int]:
    """The steps from which later starts of the run went on."""
    asked = (attempt.resume_from for attempt in run.read_attempts())
    steps = (step_of(Path(name)) for name in asked if name is not None)
    return sorted({step for step in steps if step is not None})


def _checkpoint(path: Path, columns: Mapping[str, Column], *, hashes: bool) -> Checkpoint:
    step = step_of(path) or 0
    try:
        saved_at = (path / MANIFEST).stat().st_mtime
    except OSError:
        saved_at = None
    problems = tuple(verified(path, hashes=hashes))
    loss, eval_loss = _last_until(columns, "loss", step), _last_until(columns, "eval_loss", step, exactly=True)
    accuracy = _last_until(columns, "eval_token_accuracy", step, exactly=True)
    return Checkpoint(step, saved_at, disk_bytes(path), loss, eval_loss, accuracy, problems)


def _last_until(columns: Mapping[str, Column], name: str, step: int, *, exactly: bool = False) -> float | None:
    x, y = points(dict(columns), name)
    place = int(np.searchsorted(x, step, side="right")) - 1
    return float(y[place]) if place >= 0 and (not exactly or x[place] == step) else None
