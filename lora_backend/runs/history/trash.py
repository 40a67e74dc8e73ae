"""Deleted runs: moved aside with undo, gone when the bin is emptied."""

from __future__ import annotations

import os
import secrets
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lora_backend.atomic import write_json
from lora_backend.errors import RunError
from lora_backend.i18n import N_
from lora_backend.installation import RUNS, TRASH
from lora_backend.runs.record.locked_files import read_json
from lora_backend.runs.record.provenance import system_user
from lora_backend.runs.record.run_store import RUN_ID, RunStore

EMPTIED = ".emptied-"
"""Begins the names of folders that are being deleted for good; no run's id begins so."""
MAX_MOMENT_S = 1e11
"""Some thousand years: no calendar knows later ones."""


@dataclass(frozen=True)
class Deleted:
    """One run in the bin."""

    id: str
    deleted_at: float
    actor: str
    path: Path


def bin_folder(workspace: Path) -> Path:
    """Where the bin of a workspace is. Raises `RunError` for a link, behind which others' folders would be emptied."""
    folder = workspace / TRASH
    if folder.is_symlink():
        raise RunError(N_("The trash folder {path} is a link. Put a folder there instead."), path=str(folder))
    return folder


def discard(path: Path) -> None:
    """Delete a folder for good; of a link only the link. Another may do the same at this moment."""
    with suppress(FileNotFoundError):
        if path.is_symlink():
            path.unlink()
        else:
            shutil.rmtree(path)


def moment(value: Any) -> float:
    """Seconds since the epoch as a file of the bin says them; 0 for what is no such number."""
    is_number = isinstance(value, int | float) and 0 <= value < MAX_MOMENT_S
    return float(value) if is_number else 0.0


class Bin:
    """`<workspace>/bin`: a folder for each deleted run, with who deleted it and when beside it."""

    def __init__(self, workspace: Path) -> None:
        self.runs = workspace / RUNS
        self.folder = bin_folder(workspace)

    def delete(self, run: RunStore, actor: str | None = None) -> None:
        """Move a run that has ended into the bin. Raises `RunError` for one that goes on, or whose id is in the trash."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with run.writing():  # so that nobody resumes it between the two
            if not run.state().has_ended:
                raise RunError(N_("Run {id} is still running. Stop it first."), id=run.id)
            if os.path.lexists(self.folder / run.id):  # a link that leads nowhere too
                raise RunError(
                    N_("Run {id} is already in the trash. Restore that one or empty the trash first."),
                    id=run.id,
                )
            run.path.rename(self.folder / run.id)
        with suppress(OSError):  # on a full disk a run can be deleted all the same
            write_json(self.folder / f"{run.id}.json", {"deleted_at": run.clock(), "actor": actor or system_user()})

    def restore(self, run_id: str) -> RunStore:
        """Undo: put a run back. Raises `RunError` where it is not in the bin, or another one has its place."""
        source = self._find(run_id)
        target = self.runs / run_id
        if os.path.lexists(target):  # a link that leads nowhere too
            raise RunError(N_("There is a run {id} again, so this one stays in the trash."), id=run_id)
        self.runs.mkdir(parents=True, exist_ok=True)
        source.rename(target)
        (self.folder / f"{run_id}.json").unlink(missing_ok=True)
        return RunStore(target)

    def list(self) -> list[Deleted]:
        """What is in the bin, the newest first."""
        if not self.folder.is_dir():
            return []
        found = []
        for path in self.folder.iterdir():
            if not RUN_ID.fullmatch(path.name) or not (path / "run.json").is_file():
                continue
            facts = read_json(self.folder / f"{path.name}.json") or {}
            found.append(
                Deleted(
                    path.name, moment(facts.get("deleted_at", path.stat().st_ctime)), str(facts.get("actor", "")), path
                )
            )
        return sorted(found, key=lambda run: run.deleted_at, reverse=True)

    def empty(self) -> int:
        """Delete for good all that is in the trash. Returns how many runs that were."""
        num_runs = 0
        for run in self.list():
            try:  # of one who puts it back and one who empties the bin, whoever renames it first has it
                run.path.rename(self.folder / f"{EMPTIED}{run.id}-{secrets.token_hex(4)}")
            except FileNotFoundError:
                continue
            (self.folder / f"{run.id}.json").unlink(missing_ok=True)
            num_runs += 1
        for path in self.folder.glob(f"{EMPTIED}*"):  # also what was left when this was interrupted
            discard(path)
        return num_runs

    def _find(self, run_id: str) -> Path:
        path = self.folder / run_id
        if not RUN_ID.fullmatch(run_id) or not (path / "run.json").is_file():
            raise RunError(N_("Run {id} is not in the trash."), id=run_id[:80])
        return path


def disk_bytes(folder: Path) -> int:
    """What a folder takes on the disk, all files together."""
    total = 0
    if folder.is_symlink():
        return 0
    for path in folder.rglob("*"):
        try:
            if path.is_file() and not path.is_symlink():
                total += path.stat().st_size
        except OSError:  # gone meanwhile
            continue
    return total
