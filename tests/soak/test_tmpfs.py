"""A file system that is really full, under the real trainer: at a log line, a point, a checkpoint, the adapter, or anywhere.

Each test mounts a tmpfs in a mount namespace of its own, which ends with the last process in it.
"""

from __future__ import annotations

import ctypes
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lora_backend.runs.checkpoints.manifest import checkpoints_of, verified
from lora_backend.runs.processes.recovery import recover
from lora_backend.runs.processes.supervisor import start_supervisor
from lora_backend.runs.record.run_store import RunStore
from tests.run_files import log_tail, points_of
from tests.soak.conftest import Figures
from tests.soak.real import END_S, real_run, resume, supervisors_of, trainers_of, wait_for_end
from tests.training.helpers import adapter_bytes, curve
from tests.training.helpers import run as undisturbed
from tests.waiting import until

pytestmark = [pytest.mark.soak, pytest.mark.timeout(3600)]
Make = Callable[..., dict[str, Any]]
CLONE_NEWNS, MS_BIND, MS_REC, MS_PRIVATE = 0x00020000, 0x1000, 0x4000, 1 << 18
STEPS = 400
SIZE_BYTES = 24 * 2**20


def in_private_mounts(work: Callable[[], None]) -> None:
    """Do `work` in a thread that has, with all that it starts, a mount table of its own."""
    libc = ctypes.CDLL(None, use_errno=True)
    raised: list[BaseException] = []

    def body() -> None:
        try:
            if libc.unshare(CLONE_NEWNS) != 0:
                pytest.skip(f"a mount namespace of its own is missing: {os.strerror(ctypes.get_errno())}")
            _mount(libc, None, "/", None, MS_REC | MS_PRIVATE, None)
            work()
        except BaseException as error:  # pytest's skips and failures are none of Exception
            raised.append(error)

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    if raised:
        raise raised[0]


def mount_tmpfs(folder: Path, size_bytes: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    _mount(ctypes.CDLL(None, use_errno=True), "tmpfs", str(folder), "tmpfs", 0, f"size={size_bytes}")


def _mount(
    libc: ctypes.CDLL, source: str | None, target: str, kind: str | None, flags: int, options: str | None
) -> None:
    words = [word.encode() if word is not None else None for word in (source, target, kind)]
    if libc.mount(*words, ctypes.c_ulong(flags), options.encode() if options else None) != 0:
        pytest.skip(f"the right to mount a tmpfs is missing: {os.strerror(ctypes.get_errno())}")


def lies_on(disk: Disk, file: Path) -> None:
    """Let one file of a run lie on another disk; a link to it would not be followed."""
    for place in (disk.folder / file.name, file):
        place.touch()
    _mount(ctypes.CDLL(None, use_errno=True), str(disk.folder / file.name), str(file), None, MS_BIND, None)


@dataclass
class Disk:
    """A small file system, and the file that fills it."""

    folder: Path

    @property
    def filler(self) -> Path:
        return self.folder / "filler"

    def fill(self) -> None:
        with self.filler.open("ab", buffering=0) as file, suppress(OSError):
            while True:
                file.write(b"\0" * 65536)
        assert os.statvfs(self.folder).f_bfree == 0

    def make_room(self) -> None:
        self.filler.unlink()


@contextmanager
def held(run: RunStore) -> Iterator[None]:
    """The trainer stands still meanwhile."""
    pids = [identity.pid for identity in trainers_of(run)]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def caught(run: RunStore, moment: Callable[[], bool]) -> bool:
    """Wait for a moment that may last a millisecond; False where the run ended without it."""
    (pid,) = (identity.pid for identity in trainers_of(run))
    deadline = time.monotonic() + END_S
    while time.monotonic() < deadline:
        for _ in range(200):
            if moment():
                os.kill(pid, signal.SIGSTOP)
                if moment():
                    return True
                os.kill(pid, signal.SIGCONT)
        if run.exit_json.exists():
            return False
    raise AssertionError(f"not within {END_S} s")


def values_for(config: Make) -> dict[str, Any]:
    return config(lora_dropout=0.1, max_steps=STEPS, save_steps=40, logging_steps=1)


def in_the_middle(run: RunStore) -> bool:
    """Well behind a checkpoint and well before the next one."""
    step = max((row["step"] for row in points_of(run)), default=0)
    return step > 100 and 10 < step % 40 < 20


def started(run: RunStore) -> None:
    start_supervisor(run)
    until(lambda: trainers_of(run), "the trainer starts", limit_s=END_S)


def goes_on_when_there_is_room(run: RunStore, disk: Disk, whole: RunStore) -> None:
    """After the failure: what is said, what is left, and how it goes on."""
    until(lambda: not trainers_of(run), "the trainer ends", limit_s=END_S)
    until(lambda: recover(run).has_ended, "its end is known", limit_s=END_S)
    while_full = recover(run)
    assert (while_full.state, while_full.cause) == ("failed", "disk_full"), log_tail(run, 3000)
    assert while_full.message is not None
    assert "disk is full" in while_full.message.text("en")
    assert while_full.remedy is not None
    good = checkpoints_of(run)
    assert good, "there are checkpoints"
    assert [verified(checkpoint) for checkpoint in good] == [[]] * len(good), "and each is whole"
    assert not run.adapter.exists()
    assert not list(run.path.glob(".adapter*"))
    assert not list(run.checkpoints.glob(".checkpoint-*"))
    time.sleep(10)  # room is made by somebody, not in the blink in which the supervisor looks why the trainer ended
    disk.make_room()
    until(run.exit_json.exists, "the end is written when there is room", limit_s=END_S)
    state = recover(run)
    assert (state.state, state.cause) == ("failed", "disk_full"), run.exit_json.read_text()
    until(lambda: not supervisors_of(run), "the supervisor leaves", limit_s=END_S)
    resume(run)
    wait_for_end(run)
    assert recover(run).state == "finished", log_tail(run, 3000)
    assert curve(run) == curve(whole)
    assert adapter_bytes(run) == adapter_bytes(whole)


def test_a_log_without_room_costs_no_run(config: Make, workspace: Path, tmp_path: Path, figures: Figures) -> None:
    """The log alone lies on the full disk: no line of a log is worth a run."""
    values = values_for(config)
    whole = undisturbed(workspace, values)

    def work() -> None:
        disk = Disk(tmp_path / "small")
        mount_tmpfs(disk.folder, 2**20)
        run = real_run(workspace, values, "log")
        lies_on(disk, run.train_log)
        started(run)
        until(lambda: in_the_middle(run), "it trains", limit_s=END_S)
        with held(run):
            disk.fill()
        size_bytes = run.train_log.stat().st_size
        wait_for_end(run)
        assert recover(run).state == "finished", recover(run)
        assert run.train_log.stat().st_size - size_bytes < 4096, "nothing more found room"
        assert curve(run) == curve(whole)
        assert adapter_bytes(run) == adapter_bytes(whole)

    in_private_mounts(work)
    figures("disk full at the log: the run finishes, adapter and curve bit-identical")


def test_points_without_room_end_the_run_which_goes_on_later(
    config: Make, workspace: Path, tmp_path: Path, figures: Figures
) -> None:
    values = values_for(config)
    whole = undisturbed(workspace, values)

    def work() -> None:
        disk = Disk(tmp_path / "small")
        mount_tmpfs(disk.folder, 2**20)
        run = real_run(workspace, values, "points")
        lies_on(disk, run.metrics_jsonl)
        started(run)
        until(lambda: in_the_middle(run), "it trains", limit_s=END_S)
        with held(run):
            disk.fill()
        goes_on_when_there_is_room(run, disk, whole)

    in_private_mounts(work)
    figures("disk full at the points: failed with disk_full, every checkpoint whole, resumed bit-identical")


def test_a_disk_that_is_full_for_all_of_the_run_is_said_and_the_run_goes_on_later(
    config: Make, workspace: Path, figures: Figures
) -> None:
    """Not even the end can be written down then."""
    values = values_for(config)
    whole = undisturbed(workspace, values)

    def work() -> None:
        disk = Disk(workspace / "runs" / "all")
        mount_tmpfs(disk.folder, SIZE_BYTES)
        run = real_run(workspace, values, "all")
        started(run)
        until(lambda: in_the_middle(run), "it trains", limit_s=END_S)
        with held(run):
            disk.fill()
        until(lambda: not trainers_of(run), "the trainer ends", limit_s=END_S)
        assert not run.exit_json.exists(), "there is no room for it"
        goes_on_when_there_is_room(run, disk, whole)

    in_private_mounts(work)
    figures(
        "disk full for all at once in training: failed with disk_full though nothing can be written, resumed bit-identical"
    )


@pytest.mark.parametrize(
    ("what", "pattern"), [("checkpoint", "checkpoints/.checkpoint-*.new/*/*"), ("adapter", ".adapter.new")]
)
def test_a_disk_that_fills_up_while_a_folder_is_written_leaves_none_of_it(
    what: str, pattern: str, config: Make, workspace: Path, figures: Figures
) -> None:
    values = values_for(config)
    whole = undisturbed(workspace, values)
    tries = []

    def work() -> None:
        for number in range(10):
            disk = Disk(workspace / "runs" / f"{what}{number}")
            mount_tmpfs(disk.folder, SIZE_BYTES)
            run = real_run(workspace, values, f"{what}{number}")
            started(run)
            until(lambda run=run: in_the_middle(run), "it trains", limit_s=END_S)  # type: ignore[misc]
            if not caught(run, lambda run=run: any(run.path.glob(pattern))):  # type: ignore[misc]
                continue
            disk.fill()
            for identity in trainers_of(run):
                os.kill(identity.pid, signal.SIGCONT)
            goes_on_when_there_is_room(run, disk, whole)
            tries.append(number + 1)
            return
        raise AssertionError("the moment was never caught")

    in_private_mounts(work)
    figures(
        f"disk full while the {what} is written: failed with disk_full, nothing half written left, resumed bit-identical (caught at try {tries[0]})"
    )
