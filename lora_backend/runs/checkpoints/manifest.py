"""A run's checkpoints on disk: whole or passed over, the newest that is whole, and which of them are kept.

A checkpoint is a folder `checkpoint-<step>`: the adapter as PEFT saves it in `adapter/`, the rest of the training's state
beside it, and a `manifest.json` that was written last: name, size and sha256 of every other file. What has no manifest,
or does not agree with it, is not whole.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lora_backend import bounded
from lora_backend.atomic import write_json
from lora_backend.errors import RunError
from lora_backend.i18n import N_
from lora_backend.runs.record.attempts import DamagedCheckpoint
from lora_backend.runs.record.run_folder import RunFolder
from lora_backend.symlinks import is_unlinked_folder, links_below
from lora_backend.verification.passport import file_sha256

MANIFEST, ADAPTER, STATE, TENSORS = "manifest.json", "adapter", "state.json", "state.safetensors"
ADAPTER_FILE = f"{ADAPTER}/adapter_model.safetensors"
CURVES = "metrics.jsonl"
"""A copy of the run's curves up to the step, for whoever opens a checkpoint by itself."""
EARLIER = "progress.json"
"""In a checkpoint of an earlier version, beside transformers' own files."""
FORMAT = 1
NAME = re.compile(r"checkpoint-(\d{1,18})")
LEAST_KEPT = 2
"""Never fewer: while the newest is damaged, the one before it is all there is."""
UNUSABLE = "damaged or unsafe"
"""What a trainer says of a file that it cannot open, or only by running code that it holds."""
SET_ASIDE = ".set-aside"
"""Where a resume puts the checkpoints that it does not go on from; the next resume empties it."""


@dataclass(frozen=True)
class Damaged:
    """A checkpoint that was passed over, and what is wrong with its files."""

    path: Path
    problems: tuple[str, ...]

    def record(self) -> DamagedCheckpoint:
        """For an attempt's file."""
        return DamagedCheckpoint(checkpoint=self.path.name, problems=list(self.problems))


def step_of(path: Path) -> int | None:
    """The optimizer step of `checkpoint-<step>`; None for any other name."""
    found = NAME.fullmatch(path.name)
    return int(found[1]) if found else None


def refuse_earlier(checkpoint: Path) -> None:
    """Raise `RunError` for a checkpoint of an earlier version: its state is pickled, and no file here is run to be read."""
    if (checkpoint / STATE).exists() or not (checkpoint / EARLIER).exists():
        return
    raise RunError(
        N_(
            "{checkpoint} was written by an earlier version, so this version cannot continue from it. Start a new run from its config; the adapter in {path} still loads."
        ),
        checkpoint=checkpoint.name,
        path=str(checkpoint),
    )


def checkpoints_of(run: RunFolder) -> list[Path]:
    """All checkpoints by step, the oldest first, whole or not. Clocks jump, so times of files say nothing."""
    if not is_unlinked_folder(run.checkpoints):
        return []
    found = [(step, path) for path in run.checkpoints.iterdir() if (step := step_of(path)) is not None]
    return [path for _, path in sorted(found)]


def newest_whole(run: RunFolder, before: int | None = None) -> tuple[Path | None, list[Damaged]]:
    """The newest checkpoint (below step `before`) that is whole, and the newer ones that are not."""
    damaged: list[Damaged] = []
    for path in reversed(checkpoints_of(run)):
        if before is not None and (step_of(path) or 0) >= before:
            continue
        problems = verified(path)
        if not problems:
            return path, damaged
        damaged.append(Damaged(path, tuple(problems)))
    return None, damaged


def verified(path: Path, *, hashes: bool = True) -> list[str]:
    """What is wrong with the checkpoint in `path`, a few words for each file; empty where it is whole.

    Without `hashes` only names and sizes are held against the manifest, which reads no file.
    """
    if path.is_symlink():
        return ["is a symbolic link"]
    if links := links_below(path):
        return [f"{name}: is a symbolic link" for name in links]
    try:
        manifest = bounded.read_json(path / MANIFEST, follow=False)
    except FileNotFoundError:
        return [f"{MANIFEST}: missing"]
    except (OSError, ValueError):
        return [f"{MANIFEST}: cannot be read"]
    if not isinstance(manifest, dict) or not isinstance(manifest.get("files"), dict):
        return [f"{MANIFEST}: is no manifest"]
    if manifest.get("format") != FORMAT:
        return [f"{MANIFEST}: format {manifest.get('format')!r}, not {FORMAT}"]
    if manifest.get("step") != step_of(path):
        return [f"{MANIFEST}: of step {manifest.get('step')!r}"]
    return [
        problem
        for name, wanted in manifest["files"].items()
        if (problem := _problem(path, name, wanted, hashes=hashes))
    ]


def _problem(path: Path, name: str, wanted: Any, *, hashes: bool) -> str | None:
    if Path(name).is_absolute() or ".." in Path(name).parts or not isinstance(wanted, dict):
        return f"{name[:100]}: is no file of a checkpoint"
    try:
        size_bytes = (path / name).stat().st_size
        if size_bytes != wanted.get("size"):
            return f"{name}: {size_bytes} bytes, not {wanted.get('size')}"
        is_same = not hashes or file_sha256(path / name) == wanted.get("sha256")
        return None if is_same else f"{name}: sha256 differs"
    except FileNotFoundError:
        return f"{name}: missing"
    except OSError as error:
        return f"{name}: {error.strerror}"


def write_manifest(path: Path, step: int) -> None:
    """Flush every file of the checkpoint to the disk, then say what is in it."""
    files = {}
    for file in sorted(path.rglob("*")):
        if file.is_file():
            _flush(file)
            files[file.relative_to(path).as_posix()] = {"sha256": file_sha256(file), "size": file.stat().st_size}
    for folder in [*(folder for folder in path.rglob("*") if folder.is_dir()), path]:
        _flush(folder)
    write_json(path / MANIFEST, {"format": FORMAT, "step": step, "files": files})
    _flush(path)


def put_in_place(staged: Path, path: Path) -> None:
    """Rename a checkpoint that is whole to its name; what stood there is gone afterwards."""
    old = path.with_name(f".{path.name}.old")
    if path.exists():
        shutil.rmtree(old, ignore_errors=True)
        path.rename(old)
    staged.rename(path)
    _flush(path.parent)
    shutil.rmtree(old, ignore_errors=True)


def best_checkpoint(run: RunFolder, scores: Mapping[int, float]) -> Path | None:
    """The one of the lowest score, the first of those that are alike; None where none has one. `scores`: by step."""
    scored = (path for path in checkpoints_of(run) if step_of(path) in scores)
    return min(scored, key=lambda path: scores[step_of(path) or 0], default=None)


def rotate(run: RunFolder, keep: int | None, scores: Mapping[int, float]) -> list[Path]:
    """Remove all but the last `keep` checkpoints (None: all stay) and the best by `scores`. Returns what was removed."""
    if keep is None:
        return []
    found = checkpoints_of(run)
    last, best = max(keep, LEAST_KEPT), best_checkpoint(run, scores)
    removed = [path for path in found[:-last] if path != best]
    for path in removed:
        remove(path)
    return removed


def remove(path: Path) -> None:
    """Take a checkpoint away: first out of sight, so that half of one is never taken for a whole."""
    gone = path.with_name(f".{path.name}.old")
    shutil.rmtree(gone, ignore_errors=True)
    try:
        path.rename(gone)
    except FileNotFoundError:
        return
    shutil.rmtree(gone, ignore_errors=True)


def set_aside(run: RunFolder, paths: Iterable[Path]) -> None:
    """Move checkpoints that a resume does not go on from out of the way: another end of the run will take their names."""
    aside = run.checkpoints / SET_ASIDE
    shutil.rmtree(aside, ignore_errors=True)
    for path in paths:
        aside.mkdir(exist_ok=True)
        path.rename(aside / path.name)


def sweep(run: RunFolder) -> None:
    """Remove what a killed trainer left half written or half removed."""
    if is_unlinked_folder(run.checkpoints):
        for path in run.checkpoints.glob(".checkpoint-*"):
            shutil.rmtree(path, ignore_errors=True)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
