"""Which process is which, and when it ends: a pid alone is reused, and `create_time` moves when the clock is set."""

from __future__ import annotations

import os
import select
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import psutil
from pydantic import PlainSerializer, PlainValidator, WithJsonSchema

POLL_S = 0.2
"""How often a process is looked at where the kernel cannot tell of its end."""
_children: list[subprocess.Popen[bytes]] = []
_children_lock = threading.Lock()


@dataclass(frozen=True)
class ProcessIdentity:
    """Pid, start in clock ticks since boot (field 22 of /proc/<pid>/stat), and the boot."""

    pid: int
    start_ticks: int
    boot_id: str

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> ProcessIdentity:
        return cls(int(data["pid"]), int(data["start_ticks"]), str(data["boot_id"]))


def _identity(value: Any) -> ProcessIdentity:
    if isinstance(value, ProcessIdentity):
        return value
    try:
        return ProcessIdentity.from_json(value)
    except (KeyError, TypeError, OverflowError) as error:
        raise ValueError("no process") from error


Process = Annotated[
    ProcessIdentity,
    PlainValidator(_identity),
    PlainSerializer(ProcessIdentity.to_json),
    WithJsonSchema(
        {
            "type": "object",
            "title": "ProcessIdentity",
            "description": "A process: its pid, its start in clock ticks since boot, and the boot.",
            "properties": {
                "pid": {"type": "integer"},
                "start_ticks": {"type": "integer"},
                "boot_id": {"type": "string"},
            },
            "required": ["pid", "start_ticks", "boot_id"],
        }
    ),
]
"""One in a file."""


def identify(pid: int) -> ProcessIdentity | None:
    """The identity of a process that is there now, else None."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The name in parentheses may hold spaces and parentheses; fields count from behind the last one.
    start_ticks = int(stat.rpartition(")")[2].split()[19])
    return ProcessIdentity(pid, start_ticks, boot_id())


def boot_id() -> str:
    """The kernel's id of this boot: pids and ticks mean nothing across two of them."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def boot_clock_s() -> float:
    """Seconds since boot, sleep included: no setting of the clock moves them."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def is_alive(identity: ProcessIdentity) -> bool:
    """Whether that very process still runs; a zombie does not."""
    if identify(identity.pid) != identity:
        return False
    try:
        return psutil.Process(identity.pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_for_end(identity: ProcessIdentity, timeout_s: float) -> bool:
    """Wait until that process, a child or not, has ended; True where it has within `timeout_s`."""
    try:
        descriptor = os.pidfd_open(identity.pid)
    except OSError:  # gone, or a kernel without pidfd
        deadline = time.monotonic() + timeout_s
        while is_alive(identity) and time.monotonic() < deadline:
            time.sleep(min(POLL_S, timeout_s))
        return not is_alive(identity)
    try:
        if not is_alive(identity):  # only now does the descriptor stand for the process that was meant
            return True
        waiting = select.poll()
        waiting.register(descriptor, select.POLLIN)
        return bool(waiting.poll(timeout_s * 1000))
    finally:
        os.close(descriptor)


def signal_process(identity: ProcessIdentity, number: int) -> None:
    """Send a signal to that process and the group it leads, and to no other that got its pid."""
    if not is_alive(identity):
        return
    try:
        if os.getpgid(identity.pid) == identity.pid:
            os.killpg(identity.pid, number)
        else:
            os.kill(identity.pid, number)
    except ProcessLookupError:
        return


def let_go(process: subprocess.Popen[bytes]) -> int:
    """Wait for a child no more, which lives as long as it likes; `reap` takes it away when it is dead. Returns its pid."""
    with _children_lock:
        _children.append(process)
    return process.pid


def reap() -> None:
    """Take away the children that were let go and have ended since: else each would stay a zombie as long as we live."""
    with _children_lock:
        _children[:] = [child for child in _children if child.poll() is None]


def marked(name: str, value: str) -> Iterator[ProcessIdentity]:
    """Every living process of ours whose environment says `name=value`: what a trainer started, in whatever session."""
    mark = f"{name}={value}".encode()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        try:
            environment = (entry / "environ").read_bytes().split(b"\0")
        except OSError:  # another user's, or just gone
            continue
        if mark in environment and (found := identify(int(entry.name))) and is_alive(found):
            yield found
