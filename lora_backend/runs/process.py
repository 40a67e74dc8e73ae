"""Which process is which: a pid alone is reused, and `create_time` moves when the clock is set."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil


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


def is_alive(identity: ProcessIdentity) -> bool:
    """Whether that very process still runs; a zombie does not."""
    if identify(identity.pid) != identity:
        return False
    try:
        return psutil.Process(identity.pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
