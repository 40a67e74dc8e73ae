"""Leases go down to processes whose launcher closes what it does not know, and are held to the last of them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from lora_backend.installation import child_environment
from lora_backend.runs.processes.lease_queue import on_stdin, queue_of
from lora_backend.runs.processes.leases import CPU, holders, release, take

COPIES = """
import os, sys
from lora_backend.runs.processes.lease_queue import take_copies
copies = take_copies()
print(len(copies), [os.get_inheritable(copy) for copy in copies], len(sys.stdin.read()), flush=True)
os.read(int(sys.argv[1]), 1)
"""


def child(stdin: int | None = None) -> tuple[subprocess.Popen[str], int]:
    """A process that takes copies, and lives until the descriptor is closed."""
    alive, end = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-c", COPIES, str(alive)],
        stdin=stdin,
        stdout=subprocess.PIPE,
        text=True,
        pass_fds=[alive],
        env=child_environment(),
    )
    os.close(alive)
    return process, end


def test_each_of_several_processes_takes_copies_and_the_last_one_frees_the_lease(tmp_path: Path) -> None:
    leases = take(tmp_path, [CPU, "GPU-1"], tmp_path / "run")
    assert leases
    with on_stdin([lease.descriptor for lease in leases]):
        children = [child(), child()]
    release(leases)
    for process, _ in children:
        assert process.stdout
        assert process.stdout.readline() == "2 [False, False] 0\n", "and what it starts inherits none"
    for process, end in children:
        assert len(holders(tmp_path, [CPU, "GPU-1"])) == 2
        os.close(end)
        process.communicate(timeout=60)
    assert holders(tmp_path, [CPU, "GPU-1"]) == []


def test_a_queue_holds_a_lease_although_nobody_has_taken_a_copy(tmp_path: Path) -> None:
    leases = take(tmp_path, [CPU], tmp_path / "run")
    assert leases
    with queue_of([lease.descriptor for lease in leases]):
        release(leases)
        assert holders(tmp_path, [CPU])
    assert holders(tmp_path, [CPU]) == []


def test_stdin_is_what_it_was_where_there_is_no_lease_and_afterwards(tmp_path: Path) -> None:
    before = os.fstat(0)
    with on_stdin([]):
        assert os.path.samestat(os.fstat(0), before)
    leases = take(tmp_path, [CPU], tmp_path / "run")
    assert leases
    with on_stdin([lease.descriptor for lease in leases]):
        assert not os.path.samestat(os.fstat(0), before)
    assert os.path.samestat(os.fstat(0), before)
    release(leases)


def test_a_stdin_that_is_no_queue_gives_no_copies() -> None:
    process, end = child(subprocess.DEVNULL)
    os.close(end)
    assert process.communicate(timeout=60)[0].startswith("0 []")
