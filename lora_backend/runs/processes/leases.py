"""Who may use which GPU: one lock file a GPU, held by supervisor and trainer, freed by the kernel with its last holder.

The lock is on the open file description, which both inherit: whichever of them lives longer keeps it. Byte 0 is the
lease. A run that was started although another holds the lease locks a byte of its own behind it, and whoever comes
next in order waits for all of them. The CPU is leased as if it were one GPU. A lease means something to the runs of
one workspace; what anybody else does on a GPU is seen by its free memory alone.
"""

from __future__ import annotations

import fcntl
import os
import struct
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from lora_backend.atomic import write_json
from lora_backend.clock import Clock, machine_clock
from lora_backend.runs.record.attempts import Attempt
from lora_backend.runs.record.locked_files import read_json
from lora_backend.runs.record.numbering import shown_uuids
from lora_backend.symlinks import open_unlinked

CPU = "cpu"
NUM_SLOTS = 64
"""Byte 0 and those of runs that were started anyway."""
BOOK = NUM_SLOTS
"""The byte that is locked while what is written down of a lease changes; no lease is ever one of it."""
BOOK_TIMEOUT_S = 1.0
"""One who was stopped with the book in hand holds up nobody's start longer than this."""
_LOCK = struct.Struct("hhqqi4x")
"""`struct flock`: type, whence, start, length, pid (which is 0 for locks of an open file description)."""


@dataclass(frozen=True)
class Lease:
    """A lock that this process holds, on one GPU or the CPU."""

    key: str
    descriptor: int

    def close(self) -> None:
        """Let go of it here; who inherited it holds it still."""
        os.close(self.descriptor)


@dataclass(frozen=True)
class Holder:
    """Who has a lease, as it wrote down when it took it."""

    key: str
    run: str
    """The run's id."""
    path: Path
    pid: int
    """Of the process that took it, for the run."""
    since: float


def lease_keys(attempt: Attempt) -> tuple[str, ...]:
    """What a start of a run leases: the GPUs of its plan; all that it sees where accelerate places it; else the CPU.

    Empty for a run that was asked to go beside others, and for one that a cluster trains.
    """
    if attempt.shares or attempt.cluster is not None:
        return ()
    uuids = attempt.gpus
    if not uuids and attempt.plan is None:
        uuids = shown_uuids(attempt)
    return tuple(dict.fromkeys(uuids)) or (CPU,)


def take(
    folder: Path, keys: Iterable[str], run: Path, *, anyway: bool = False, clock: Clock = machine_clock
) -> list[Lease] | None:
    """All leases of `keys` for a run, or None and none of them where another run holds one.

    `anyway` takes a place beside whoever holds it. Sorted, so that two runs which want the same GPUs cannot each
    get one of them and lose the other for ever.
    """
    leases: list[Lease] = []
    for key in sorted(set(keys)):
        lease = _take_one(folder, key, run, clock(), anyway=anyway)
        if lease is None:
            release(leases)
            return None
        leases.append(lease)
    return leases


def release(leases: Iterable[Lease]) -> None:
    """Let go of all of them."""
    for lease in leases:
        lease.close()


def holders(folder: Path, keys: Sequence[str]) -> list[Holder]:
    """Who holds any of `keys` now. Asking takes nothing, so it never stands in the way of one who does.

    What was written down of those who hold them no more is taken away.
    """
    found = []
    for key in keys:
        try:
            descriptor = open_unlinked(_path(folder, key), os.O_RDWR)
        except OSError:  # nobody has ever held it
            continue
        try:
            found += [_holder(folder, key, slot) for slot in range(NUM_SLOTS) if _is_locked(descriptor, slot)]
            _clear_stale(folder, key, descriptor)
        finally:
            os.close(descriptor)
    return found


def clear_stale(folder: Path) -> None:
    """Take away what was written down of leases that nobody holds any more: their runs have ended, or are gone."""
    for key in {file.name.rsplit(".", 2)[0] for file in folder.glob("*.[0-9]*.json")}:
        with suppress(OSError):
            descriptor = open_unlinked(_path(folder, key), os.O_RDWR | os.O_CREAT)
            try:
                _clear_stale(folder, key, descriptor)
            finally:
                os.close(descriptor)


def _clear_stale(folder: Path, key: str, descriptor: int) -> None:
    """Judged with the book in hand: a lease is locked before it is written down, so what is free now was left behind."""
    written = {slot: file for slot in range(NUM_SLOTS) if (file := _info(folder, key, slot)).exists()}
    if all(_is_locked(descriptor, slot) for slot in written) or not _lock(descriptor, BOOK, 1):
        return
    try:
        for slot, file in written.items():
            if not _is_locked(descriptor, slot):
                with suppress(OSError):
                    file.unlink()
    finally:
        _unlock(descriptor, BOOK, 1)


def lock_once(path: Path) -> int | None:
    """A lock that one process at a time can hold: its descriptor, to be kept open, or None where another has it.

    Its folder must be there: to lock what was deleted makes nothing anew.
    """
    descriptor = open_unlinked(path, os.O_RDWR | os.O_CREAT)
    if _lock(descriptor, 0, 1):
        return descriptor
    os.close(descriptor)
    return None


def is_locked(path: Path) -> bool:
    """Whether a process holds that lock."""
    try:
        descriptor = open_unlinked(path, os.O_RDWR)
    except OSError:
        return False
    try:
        return _is_locked(descriptor, 0)
    finally:
        os.close(descriptor)


def _take_one(folder: Path, key: str, run: Path, now: float, *, anyway: bool) -> Lease | None:
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = open_unlinked(_path(folder, key), os.O_RDWR | os.O_CREAT)
    slot = _lock_slot(descriptor, anyway=anyway)
    if slot is None:
        os.close(descriptor)
        return None
    has_book = _has_book(descriptor)
    with suppress(OSError):  # the lock is what counts; on a full disk nobody can read who has it
        write_json(_info(folder, key, slot), {"run": run.name, "path": str(run), "pid": os.getpid(), "time": now})
    if has_book:
        _unlock(descriptor, BOOK, 1)
    return Lease(key, descriptor)


def _has_book(descriptor: int) -> bool:
    deadline = time.monotonic() + BOOK_TIMEOUT_S
    while not (has_it := _lock(descriptor, BOOK, 1)) and time.monotonic() < deadline:
        time.sleep(0.002)
    return has_it


def _lock_slot(descriptor: int, *, anyway: bool) -> int | None:
    if _lock(descriptor, 0, NUM_SLOTS):  # nobody is there: keep the first byte, leave the others
        _unlock(descriptor, 1, NUM_SLOTS - 1)
        return 0
    if not anyway:
        return None
    # A moment ago somebody may have been between the two lines above, so more than once.
    for attempt in range(10):
        for slot in range(1, NUM_SLOTS):
            if _lock(descriptor, slot, 1):
                return slot
        time.sleep(0.01 * attempt)
    return None


def _lock(descriptor: int, start: int, length: int) -> bool:
    try:
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _LOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, start, length, 0))
    except (BlockingIOError, PermissionError):  # EAGAIN or EACCES, as POSIX leaves open
        return False
    return True


def _unlock(descriptor: int, start: int, length: int) -> None:
    fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _LOCK.pack(fcntl.F_UNLCK, os.SEEK_SET, start, length, 0))


def _is_locked(descriptor: int, slot: int) -> bool:
    asked = _LOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, slot, 1, 0)
    answer = _LOCK.unpack(fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, asked))
    return bool(answer[0] != fcntl.F_UNLCK)


def _holder(folder: Path, key: str, slot: int) -> Holder:
    info = read_json(_info(folder, key, slot)) or {}
    pid, since = info.get("pid"), info.get("time")
    return Holder(
        key,
        str(info.get("run", "?")),
        Path(str(info.get("path", "?"))),
        pid if isinstance(pid, int) else 0,
        since if isinstance(since, float) else 0.0,
    )


def _path(folder: Path, key: str) -> Path:
    return folder / f"{file_stem(key)}.lock"


def _info(folder: Path, key: str, slot: int) -> Path:
    return folder / f"{file_stem(key)}.{slot}.json"


def file_stem(key: str) -> str:
    """What the files of a lease are called. A UUID is letters, digits and dashes; of a MIG instance in old drivers also slashes."""
    return "".join(letter if letter.isalnum() or letter in "-_" else "_" for letter in key)[:200]
