"""Runs of the real trainer under a real supervisor, and what the processes say of a run beside what its state says."""

from __future__ import annotations

import ctypes
import os
import struct
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

from lora_backend.runs.processes.leftovers import RUN_MARK
from lora_backend.runs.processes.recovery import recover
from lora_backend.runs.processes.supervisor import start_supervisor
from lora_backend.runs.processes.trainer_command import trainer_command
from lora_backend.runs.record.process_identity import ProcessIdentity, identify, is_alive, marked
from lora_backend.runs.record.run_store import RunStore
from tests.run_files import status_of
from tests.runs.stand_in import queue_processes
from tests.training.helpers import made, made_ready
from tests.waiting import until

END_S = 900.0
"""How long a run may take on a machine that is ten times slower than one where it takes a minute and a half."""
TRUE_WITHIN_S = 5.0
IN_MOVED_TO, IN_NONBLOCK, IN_CLOEXEC = 0x80, os.O_NONBLOCK, os.O_CLOEXEC
_EVENT = struct.Struct("iIII")


def real_run(workspace: Path, values: dict[str, Any], name: str) -> RunStore:
    """The folder of a run of the real trainer, not started."""
    return made(workspace, values, name, trainer_command(workspace / "runs" / name))


def resume(run: RunStore) -> int:
    """Another attempt, from the newest whole checkpoint; returns its supervisor's pid."""
    assert run.exit_json.exists(), status_of(run)
    made_ready(run)
    return start_supervisor(run)


def wait_for_end(run: RunStore) -> None:
    until(lambda: recover(run).has_ended and run.exit_json.exists(), f"run {run.id} ends", limit_s=END_S)


def trainers_of(run: RunStore) -> list[ProcessIdentity]:
    """Every living process that belongs to the run's training, whatever its files say."""
    return list(marked(RUN_MARK, str(run.path)))


def supervisors_of(run: RunStore) -> list[ProcessIdentity]:
    """Every living supervisor of the run, whatever its files say."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        command = process.info["cmdline"] or []
        if "lora_backend.runs.processes.supervisor" in command and str(run.path) in command:
            identity = identify(process.pid)
            if identity and is_alive(identity):
                found.append(identity)
    return found


def contradiction(run: RunStore, workspace: Path) -> str | None:
    """What the processes say against the state that is shown; None where they agree."""
    state = recover(run).state
    if state in ("finished", "failed", "stopped", "lost"):
        left = trainers_of(run)
        return f"{state}, and {left} trains" if left else None
    if state == "queued":
        return None if queue_processes(workspace) else "queued, and nobody starts it"
    if not supervisors_of(run):
        return f"{state}, and nobody watches"
    return None if state == "starting" or trainers_of(run) else f"{state}, and nobody trains"


def seconds_until_true(run: RunStore, workspace: Path) -> float:
    """How long the state disagreed with the processes. A run may change between two looks, so it is looked at again."""
    began = time.monotonic()
    while found := contradiction(run, workspace):
        assert time.monotonic() - began < 60, f"{found}: {status_of(run)}"
        time.sleep(0.02)
    return time.monotonic() - began


class Arrivals:
    """Counts how often a file of this name is put into a folder, by the kernel's own word (inotify)."""

    def __init__(self, folder: Path, name: str) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._name = name.encode()
        self._folder = folder
        self._descriptor = -1
        self._count = 0

    def __enter__(self) -> Self:
        self._descriptor = self._libc.inotify_init1(IN_NONBLOCK | IN_CLOEXEC)
        assert self._descriptor >= 0
        assert self._libc.inotify_add_watch(self._descriptor, os.fsencode(self._folder), IN_MOVED_TO) >= 0
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._descriptor)

    @property
    def count(self) -> int:
        while True:
            try:
                data = os.read(self._descriptor, 65536)
            except BlockingIOError:
                return self._count
            place = 0
            while place < len(data):
                _, mask, _, length = _EVENT.unpack_from(data, place)
                assert not mask & 0x4000, "the kernel dropped events"  # IN_Q_OVERFLOW
                name = data[place + _EVENT.size : place + _EVENT.size + length].rstrip(b"\0")
                self._count += name == self._name
                place += _EVENT.size + length
