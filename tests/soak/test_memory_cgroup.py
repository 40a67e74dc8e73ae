"""The kernel's own out-of-memory kill, in a memory cgroup: told apart from any other SIGKILL, with a remedy that helps."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lora_backend.installation import child_environment
from lora_backend.runs.processes.recovery import recover
from lora_backend.runs.record.run_store import RunStore
from tests.run_files import log_tail
from tests.soak.conftest import Figures
from tests.soak.real import END_S, real_run, trainers_of, wait_for_end
from tests.tiny import chats, write_rows
from tests.waiting import until

pytestmark = [pytest.mark.soak, pytest.mark.timeout(3600), pytest.mark.usefixtures("ended_after")]
Make = Callable[..., dict[str, Any]]
ROOT = Path("/sys/fs/cgroup")
HEADROOM_BYTES = 96 * 2**20


@dataclass
class Group:
    """A memory cgroup of the test's own, below the one that it runs in; of either version."""

    folder: Path
    limit: str
    used: str
    peak: str

    def bound(self, limit_bytes: int) -> None:
        (self.folder / self.limit).write_text(str(limit_bytes))

    def pids(self) -> list[int]:
        return [int(line) for line in (self.folder / "cgroup.procs").read_text().split()]

    def used_bytes(self) -> int:
        return int((self.folder / self.used).read_text())


@pytest.fixture
def group() -> Iterator[Group]:
    found = _made()
    if isinstance(found, str):
        pytest.skip(f"a memory cgroup cannot be made here: {found}")
    yield found
    for pid in found.pids():
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 60
    while found.pids() and time.monotonic() < deadline:
        time.sleep(0.05)
    found.folder.rmdir()


def _made() -> Group | str:
    """The group, or why there is none."""
    own = dict(line.split(":", 2)[1:] for line in Path("/proc/self/cgroup").read_text().splitlines())
    if "memory" in own:
        parents = [ROOT / "memory" / own["memory"].lstrip("/")]
        files = ("memory.limit_in_bytes", "memory.usage_in_bytes", "memory.max_usage_in_bytes")
    else:
        folder = ROOT / own.get("", "/").lstrip("/")
        parents, files = [folder, folder.parent], ("memory.max", "memory.current", "memory.peak")
    reason = "no memory controller"
    for parent in parents:
        folder = parent / f"flightdeck-test-{os.getpid()}"
        try:
            folder.mkdir()
        except OSError as error:
            reason = f"{parent}: {error.strerror}"
            continue
        if (folder / files[0]).exists():
            return Group(folder, *files)
        folder.rmdir()
        reason = f"{parent}: its memory controller is not passed on to groups below it"
    return reason


def started_in(group: Group, run: RunStore) -> None:
    """As in a container: supervisor and trainer are both bound."""
    start = "import sys; from pathlib import Path; from lora_backend.runs.record.run_store import RunStore; from lora_backend.runs.processes.supervisor import start_supervisor; start_supervisor(RunStore(Path(sys.argv[1])))"
    enter = 'echo $$ > "$0" && exec "$@"'  # before it is Python, so that all that it starts is in the group
    procs = str(group.folder / "cgroup.procs")
    subprocess.run(
        ["sh", "-c", enter, procs, sys.executable, "-c", start, str(run.path)], check=True, env=child_environment()
    )
    until(lambda: trainers_of(run), "the trainer starts", limit_s=END_S)
    assert {identity.pid for identity in trainers_of(run)} <= set(group.pids())


def test_the_kernels_kill_is_told_apart_and_its_remedy_helps(
    config: Make, workspace: Path, tmp_path: Path, group: Group, figures: Figures
) -> None:
    data = write_rows(tmp_path / "many.jsonl", chats(4000))
    small = config(dataset=str(data), max_steps=40, batch_size=4, save_steps=10, optim="sgd")

    first = real_run(workspace, small, "small")
    started_in(group, first)
    wait_for_end(first)
    assert recover(first).state == "finished", log_tail(first, 3000)
    needed_bytes = int((group.folder / group.peak).read_text())

    group.bound(needed_bytes + HEADROOM_BYTES)
    large = real_run(workspace, small | {"batch_size": 16_000, "max_steps": 4}, "large")
    started_in(group, large)
    wait_for_end(large)
    state = recover(large)
    assert (state.state, state.cause) == ("failed", "oom_killer"), log_tail(large, 3000)
    assert json.loads(large.exit_json.read_text())["returncode"] == -signal.SIGKILL
    assert state.remedy is not None
    assert "batch_size" in state.remedy.text("en")

    # What the remedy says, in the same group.
    remedied = real_run(workspace, small, "remedied")
    started_in(group, remedied)
    wait_for_end(remedied)
    assert recover(remedied).state == "finished", log_tail(remedied, 3000)

    # And another's SIGKILL in the same group is none of the kernel's.
    killed = real_run(workspace, small | {"max_steps": 100_000}, "killed")
    started_in(group, killed)
    until(lambda: recover(killed).step > 0, "it trains", limit_s=END_S)
    time.sleep(3)  # behind the two seconds in which a kill of the kernel's counts as this one's
    os.kill(trainers_of(killed)[0].pid, signal.SIGKILL)
    wait_for_end(killed)
    assert (recover(killed).state, recover(killed).cause) == ("failed", "killed")
    figures(
        f"memory cgroup of {(needed_bytes + HEADROOM_BYTES) / 2**20:.0f} MiB: 16,000 rows a batch are ended by the kernel and said so "
        f"(oom_killer, remedy: batch_size); 4 rows finish there; somebody else's SIGKILL is `killed`"
    )
