"""Write a checkpoint so that it is there whole or not at all, with all that a bit-identical resume needs."""

from __future__ import annotations

import errno
import logging
import math
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from transformers import TrainerState

from lora_backend.atomic import write_json
from lora_backend.bounded import read_json
from lora_backend.runs.checkpoints.manifest import put_in_place, rotate, write_manifest
from lora_backend.runs.record.run_folder import RunFolder

logger = logging.getLogger(__name__)
PROGRESS = "progress.json"
NEEDED = ("adapter_model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json", PROGRESS)
"""Without any one of these a resume would go on differently, and transformers would not say so."""


@dataclass(frozen=True)
class Progress:
    """What the Trainer holds at a step end and does not save by itself."""

    loss_sum: float
    """Losses since the last point of the curves; the next point is their mean."""
    last_logged_step: int
    total_loss: float
    evaluation_pending: bool
    """The held-back rows should have been evaluated at this step, but the run was stopped."""
    num_threads: int
    """Sums over another number of threads round otherwise."""
    deterministic: bool
    config: dict[str, Any]

    def write(self, checkpoint: Path) -> None:
        write_json(checkpoint / PROGRESS, asdict(self))

    @classmethod
    def read(cls, checkpoint: Path) -> Progress:
        data = read_json(checkpoint / PROGRESS)
        return cls(**{name: data[name] for name in cls.__dataclass_fields__})


def save_whole(
    folder: RunFolder,
    step: int,
    keep: int | None,
    state: TrainerState,
    progress: Progress,
    save: Callable[[Path], None],
) -> None:
    """Write aside, flush, rename; then remove the checkpoints that are not kept.

    `save` makes the folder `checkpoint-<step>` below the path that it is given. Whatever it raises passes, and
    nothing of the new checkpoint is left.
    """
    began = time.monotonic()
    name = f"checkpoint-{step}"
    aside = folder.checkpoints / f".{name}.new"
    shutil.rmtree(aside, ignore_errors=True)
    try:
        aside.mkdir(parents=True)
        save(aside)
        if state.best_model_checkpoint is not None:  # a path that will not be there is none to keep
            state.best_model_checkpoint = None
            state.save_to_json(str(aside / name / "trainer_state.json"))
        progress.write(aside / name)
        _flush_curves(folder)
        write_manifest(aside / name, step)
        put_in_place(aside / name, folder.checkpoints / name)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    removed = rotate(folder, keep, evaluated(state))
    logger.info(
        "%s saved in %.2f s%s", name, time.monotonic() - began,
        f"; removed {', '.join(path.name for path in removed)}" if removed else "",
    )  # fmt: skip


def _flush_curves(folder: RunFolder) -> None:
    """A checkpoint on the disk whose points are lost with the power would leave a gap in the curves."""
    if folder.metrics_jsonl.exists():
        with folder.metrics_jsonl.open("rb") as file:
            os.fsync(file.fileno())


def evaluated(state: TrainerState) -> dict[int, float]:
    """Step → evaluation loss, where it is a number."""
    losses = {row["step"]: row["eval_loss"] for row in state.log_history if "eval_loss" in row}
    return {step: loss for step, loss in losses.items() if math.isfinite(loss)}


def is_disk_full(error: BaseException) -> bool:
    """Whether `error` came of a write for which there was no room.

    torch and safetensors report it as errors of their own kind, with the system's words inside.
    """
    if "PytorchStreamWriter" in str(error) or "inline_container" in str(error):  # torch.save tells no reason
        return True
    codes = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    if isinstance(error, OSError) and error.errno in codes:
        return True
    return any(os.strerror(code).lower() in str(error).lower() or f"os error {code}" in str(error) for code in codes)
