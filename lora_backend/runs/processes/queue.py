"""Start what waits: first come first served on each GPU, runs on different GPUs side by side.

`python -m lora_backend.runs.processes.queue WORKSPACE` is the one waiting process of a workspace, elected by a lock. It ends when
nothing waits; whoever queues a run, or looks at one that is queued, starts it.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from lora_backend.errors import RunError
from lora_backend.hardware.inventory import Gpu, GpuInventory, read_gpus
from lora_backend.os_errors import in_words
from lora_backend.runs.processes.lease_requests import ask_for
from lora_backend.runs.processes.leases import Holder, holders, lease_keys, lock_once, release, take
from lora_backend.runs.processes.recovery import recover
from lora_backend.runs.processes.supervisor import start_supervisor
from lora_backend.runs.processes.waiting import (
    Entry,
    ahead_of,
    enter,
    entries,
    entry_of,
    leases_folder,
    queue_lock,
    start_queue,
    was_queued_here,
)
from lora_backend.runs.record.attempts import Attempt
from lora_backend.runs.record.documents import Exit
from lora_backend.runs.record.failures import failure
from lora_backend.runs.record.process_identity import identify
from lora_backend.runs.record.run_store import RunStore
from lora_backend.runs.record.states import StateError
from lora_backend.runs.record.transitions import end, move, replan
from lora_backend.terminal import log_to_stderr

logger = logging.getLogger(__name__)
ReadGpus = Callable[[], GpuInventory]
TICK_S = 0.5
RECOVER_EVERY_S = 2.0
"""How often the runs that others wait for are looked at."""


@dataclass(frozen=True)
class Waiting:
    """What a queued run waits for; nothing where it starts at the next look."""

    holders: tuple[Holder, ...] = ()
    """Who has its GPUs."""
    ahead: tuple[str, ...] = ()
    """Ids of the runs that came before it and want one of the same GPUs."""
    short_bytes: Mapping[str, int] | None = None
    """UUID → bytes that the plan needs there beyond what is free now."""
    missing: tuple[str, ...] = ()
    """UUIDs of GPUs that the driver does not show (any more)."""
    is_copied: bool = False
    """It was queued on another machine, and waits for nothing here."""


def start_or_queue(run: RunStore, workspace: Path, read: ReadGpus = read_gpus, *, anyway: bool = False) -> bool:
    """Start a run that was made `queued`, or let it wait for its turn. Whether it was started."""
    entry = enter(run, workspace)
    is_next = anyway or not ahead_of(entry, entries(workspace))
    if is_next and start(run, workspace, read, anyway=anyway):
        return True
    start_queue(workspace)
    return False


def start(run: RunStore, workspace: Path, read: ReadGpus = read_gpus, *, anyway: bool = False) -> bool:
    """Start a queued run if its leases are free and its plan's bytes too; `anyway` starts it beside whoever is there."""
    attempt = run.read_attempt()
    place, keys = leases_folder(workspace), lease_keys(attempt)
    ask_for(place, keys, run.path)
    leases = take(place, keys, run.path, anyway=anyway, clock=run.clock)
    if leases is None:
        return False
    try:
        if not anyway and not _has_memory(attempt, read):
            return False
        entry = entry_of(run, workspace)
        try:
            move(run, "queued", "starting", number=attempt.number, launcher=identify(os.getpid()))
        except StateError:  # cancelled, started by another, or moved to other GPUs
            return False
        if entry:
            entry.file.unlink(missing_ok=True)
        try:
            start_supervisor(run, leases)
        except OSError as error:
            found = failure("start", reason=in_words(error, workspace).message)
            end(run, Exit.of("failed", cause=found.cause, message=found.message))
        return True
    finally:
        release(leases)


def waiting_for(run: RunStore, workspace: Path, read: ReadGpus = read_gpus) -> Waiting:
    """What a queued run waits for, as it is now."""
    if not was_queued_here(run, workspace):
        return Waiting(is_copied=True)
    attempt = run.read_attempt()
    keys = lease_keys(attempt)
    all_entries = entries(workspace)
    entry = next((entry for entry in all_entries if entry.run.path == run.path), None)
    ahead = ahead_of(entry, all_entries) if entry else []
    short, missing = _shortage(attempt, read)
    return Waiting(
        tuple(holders(leases_folder(workspace), keys)), tuple(other.run.id for other in ahead), short or None, missing
    )


def change_plan(
    run: RunStore,
    workspace: Path,
    planned: Attempt,
    before: Attempt | None = None,
) -> None:
    """Let a queued run wait for what another plan needs: other GPUs. `StateError` where it waits no more.

    `before` is the attempt whose settings were planned; `StateError` where there is another since.
    """
    before = run.read_attempt() if before is None else before
    replan(run, planned.asked_like(before), after=before.number)
    enter(run, workspace)


def run_queue(workspace: Path, read: ReadGpus = read_gpus, tick_s: float = TICK_S) -> None:
    """Be the waiting process, until nothing waits. Returns at once where another is."""
    leases_folder(workspace).mkdir(parents=True, exist_ok=True)
    while True:
        lock = lock_once(queue_lock(workspace))
        if lock is None:
            return
        try:
            _serve(workspace, read, tick_s)
        finally:
            os.close(lock)
        # One that came while the lock was still held started no process, so a last look without it.
        if not entries(workspace):
            return


def _serve(workspace: Path, read: ReadGpus, tick_s: float) -> None:
    recovered_at = 0.0
    while waiting := entries(workspace):
        if time.monotonic() - recovered_at >= RECOVER_EVERY_S:
            recovered_at = time.monotonic()
            _recover_holders(workspace, waiting)
        blocked: set[str] = set()
        for entry in waiting:
            if blocked.isdisjoint(entry.keys) and _try(entry, workspace, read):
                continue
            blocked.update(entry.keys)
        time.sleep(tick_s)


def _try(entry: Entry, workspace: Path, read: ReadGpus) -> bool:
    try:
        return start(entry.run, workspace, read)
    except (OSError, RunError) as error:  # no room on the disk, a deleted folder: the others go on
        logger.warning("run %s could not be started: %s", entry.run.id, error)
        return False


def _recover_holders(workspace: Path, waiting: list[Entry]) -> None:
    """A supervisor that died leaves its GPU to a trainer that nobody watches: whoever waits for the GPU looks after it."""
    keys = sorted({key for entry in waiting for key in entry.keys})
    for path in {holder.path for holder in holders(leases_folder(workspace), keys)}:
        run = RunStore(path)
        if run.run_json.exists():
            recover(run)


def _has_memory(attempt: Attempt, read: ReadGpus) -> bool:
    return attempt.anyway or not any(_shortage(attempt, read))


def _shortage(attempt: Attempt, read: ReadGpus) -> tuple[dict[str, int], tuple[str, ...]]:
    """Bytes that are not free on each GPU of the plan, and the GPUs that are not there."""
    needed = attempt.planned_bytes
    if not needed:
        return {}, ()
    gpus: dict[str, Gpu] = {gpu.uuid: gpu for gpu in read().gpus}
    if not gpus:  # a driver that does not answer: the leases alone decide
        return {}, ()
    missing = tuple(uuid for uuid in needed if uuid not in gpus)
    lacking = {uuid: size - gpus[uuid].free_bytes for uuid, size in needed.items() if uuid in gpus}
    return {uuid: size for uuid, size in lacking.items() if size > 0}, missing


def main() -> None:
    """Entry of the process."""
    log_to_stderr()
    run_queue(Path(sys.argv[1]))


if __name__ == "__main__":
    main()
