"""Write a checkpoint so that it is there whole or not at all, with all that a bit-identical resume needs."""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from lora_backend.atomic import write_json
from lora_backend.config.schema import TrainingConfig
from lora_backend.errors import DiskFullError
from lora_backend.i18n import N_
from lora_backend.os_errors import is_disk_full
from lora_backend.peers.peers import Peers
from lora_backend.runs.checkpoints.manifest import ADAPTER, CURVES, STATE, TENSORS, put_in_place, rotate, write_manifest
from lora_backend.runs.record.locked_files import read_lines
from lora_backend.runs.record.run_store import RunStore
from lora_backend.training_state.best_model import scores
from lora_backend.training_state.state import TrainState
from lora_backend.training_state.tensor_tree import pack

logger = logging.getLogger(__name__)


def save_checkpoint(folder: RunStore, state: TrainState, config: TrainingConfig, peers: Peers) -> None:
    """Write aside, flush, rename; then remove the checkpoints that are not kept. Of several processes each gives what is
    its own, the first writes, and it is there, whole, when they go on.

    Raises `DiskFullError` where there is no room. Whatever it raises, nothing of the new checkpoint is left.
    """
    whole = state.state_dict(peers)
    if peers.is_first:
        _save(folder, state, whole, config)
    peers.agreed(None)


def _save(folder: RunStore, state: TrainState, whole: Mapping[str, Any], config: TrainingConfig) -> None:
    step = state.progress.step
    try:
        _save_whole(folder, state, whole, config)
    except Exception as error:
        if is_disk_full(error):
            raise DiskFullError(
                N_(
                    "The disk is full: checkpoint {step} could not be saved; the earlier ones are complete. Free some space at {path}."
                ),
                step=step,
                path=str(folder.checkpoints),
            ) from error
        raise


def _save_whole(folder: RunStore, state: TrainState, whole: Mapping[str, Any], config: TrainingConfig) -> None:
    began = time.monotonic()
    name = f"checkpoint-{state.progress.step}"
    aside = folder.checkpoints / f".{name}.new"
    shutil.rmtree(aside, ignore_errors=True)
    try:
        staged = aside / name
        staged.mkdir(parents=True)
        write_state(staged, state, whole, config)
        _flush_curves(folder)
        _copy_curves(folder, staged)
        write_manifest(staged, state.progress.step)
        put_in_place(staged, folder.checkpoints / name)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    removed = rotate(folder, config.save_total_limit, scores(state.progress, config))
    logger.info(
        "%s saved in %.2f s%s",
        name,
        time.monotonic() - began,
        f"; removed {', '.join(path.name for path in removed)}" if removed else "",
    )


def write_state(checkpoint: Path, state: TrainState, whole: Mapping[str, Any], config: TrainingConfig) -> None:
    """The adapter as PEFT saves it, tensors as safetensors, all else as JSON: nothing that runs when it is read.

    `whole`: what the state has to say, of all processes.
    """
    state.model.save_pretrained(str(checkpoint / ADAPTER), safe_serialization=True)
    tensors: dict[str, torch.Tensor] = {}
    packed = pack(whole, "state", tensors)
    save_file(tensors, checkpoint / TENSORS, metadata={"format": "pt"})
    write_json(
        checkpoint / STATE,
        {
            "num_threads": torch.get_num_threads(),  # sums over another number of threads round otherwise
            "deterministic": torch.are_deterministic_algorithms_enabled(),
            "config": config.model_dump(),
            "state": packed,
        },
    )


def _copy_curves(folder: RunStore, checkpoint: Path) -> None:
    if folder.metrics_jsonl.exists():
        (checkpoint / CURVES).write_bytes(read_lines(folder.metrics_jsonl))


def _flush_curves(folder: RunStore) -> None:
    """A checkpoint on the disk whose points are lost with the power would leave a gap in the curves."""
    for path in (folder.metrics_jsonl, folder.samples_jsonl):
        if path.exists():
            with path.open("rb") as file:
                os.fsync(file.fileno())
