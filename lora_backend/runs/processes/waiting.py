"""The queue on disk: one small file for each waiting run, in the order in which they came.

`<workspace>/queue/<number>-<run id>.json`. The run's own state is the truth; the file is the way to find it without
reading a thousand folders.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lora_backend.atomic import write_json
from lora_backend.installation import LEASES, QUEUE, path_of
from lora_backend.runs.processes.leases import is_locked, lease_keys
from lora_backend.runs.processes.supervisor import detached_environment
from lora_backend.runs.record.documents import QueuePlace
from lora_backend.runs.record.locked_files import lock_file, open_to_append, read_json
from lora_backend.runs.record.process_identity import boot_id, let_go
from lora_backend.runs.record.run_store import RunStore


@dataclass(frozen=True)
class Entry:
    """A run that waits, and what it waits for."""

    number: int
    file: Path
    run: RunStore
    keys: tuple[str, ...]
    """Of leases."""


def queue_folder(workspace: Path) -> Path:
    """Where the waiting runs of a workspace stand."""
    return workspace / QUEUE


def leases_folder(workspace: Path) -> Path:
    """Where the locks of a workspace stand."""
    return workspace / LEASES


def queue_lock(workspace: Path) -> Path:
    """Held by the one process that starts what waits."""
    return leases_folder(workspace) / "queue.lock"


def enter(run: RunStore, workspace: Path) -> Entry:
    """Put a run that is queued at the end of the queue, or back in its place."""
    folder = queue_folder(workspace)
    folder.mkdir(parents=True, exist_ok=True)
    place = run.read_status().attempt.queue
    if place is None:
        place = QueuePlace(number=_next_number(folder))
        with run.changing_status() as status:
            status.attempt.queue = place
    number = place.number
    file = _file(run, workspace, number)
    keys = lease_keys(run.read_attempt())
    write_json(file, {"number": number, "path": str(run.path), "keys": list(keys)})
    return Entry(number, file, run, keys)


def entries(workspace: Path) -> list[Entry]:
    """All that wait, the first come first. The entries of runs that wait no more, or lie elsewhere, are taken away: what an
    entry names is started."""
    found, home = [], workspace.resolve()
    for file in sorted(queue_folder(workspace).glob("*-*.json")):
        data = read_json(file)
        if data is None:
            continue
        path, number, keys = path_of(str(data.get("path"))), data.get("number"), data.get("keys")
        run = RunStore(path) if path is not None and path.resolve().parent.parent == home else None
        if run is None or not isinstance(number, int) or not isinstance(keys, list) or not _waits(run):
            file.unlink(missing_ok=True)
            continue
        found.append(Entry(number, file, run, tuple(map(str, keys))))
    return found


def _waits(run: RunStore) -> bool:
    return not run.exit_json.exists() and run.read_status().state == "queued"


def has_entry(run: RunStore, workspace: Path) -> bool:
    """Whether a run has its place: one look at its own file, for of a thousand that wait each is asked."""
    place = run.read_status().attempt.queue
    return place is not None and _file(run, workspace, place.number).exists()


def was_queued_here(run: RunStore, workspace: Path) -> bool:
    """Whether a queued run waits in this workspace: it has its place, or who queued it a moment ago died before that.

    The folder of a run that was queued on another machine says so too where it was copied here; the command that it
    names must not be started because somebody looks at it.
    """
    moment = run.read_status().attempt.launched
    return has_entry(run, workspace) or (moment is not None and moment.boot_id == boot_id())


def entry_of(run: RunStore, workspace: Path) -> Entry | None:
    """A run's place, where it has one."""
    return next((entry for entry in entries(workspace) if entry.run.path == run.path), None)


def ahead_of(entry: Entry, among: Sequence[Entry]) -> list[Entry]:
    """Who came before and waits for one of the same GPUs: whoever wants others is not in the way."""
    return [other for other in among if other.number < entry.number and set(other.keys) & set(entry.keys)]


def start_queue(workspace: Path) -> None:
    """See to it that a process waits for this workspace's leases; the lock decides which one, where there are more."""
    if is_locked(queue_lock(workspace)):  # it looks again after it has let go, so nobody is overlooked
        return
    leases_folder(workspace).mkdir(parents=True, exist_ok=True)
    with open_to_append(leases_folder(workspace) / "queue.log") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "lora_backend.runs.processes.queue", str(workspace)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            env=detached_environment(),
        )
    let_go(process)


def _file(run: RunStore, workspace: Path, number: int) -> Path:
    return queue_folder(workspace) / f"{number:09d}-{run.id}.json"


def _next_number(folder: Path) -> int:
    """Counted, not read off a clock: a clock can be set back."""
    with lock_file(folder / "last.lock"):
        last = read_json(folder / "last.json") or {}
        waiting = [int(file.name[:9]) for file in folder.glob("*-*.json") if file.name[:9].isdecimal()]
        number = max(int(last.get("number", 0)), max(waiting, default=0)) + 1
        write_json(folder / "last.json", {"number": number})
        return number
