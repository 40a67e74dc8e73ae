"""Runs whose trainer is a few lines of Python: real processes, leases and files, and nothing that takes a minute."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from lora_backend.runs.folder import RunFolder
from lora_backend.runs.process import ProcessIdentity, is_alive
from lora_backend.runs.states import identity_in

HEAD = """
import os, sys, time
from pathlib import Path
from lora_backend.runs.folder import RunFolder
from lora_backend.runs.process import identify
RUN = RunFolder(Path(sys.argv[1]))
"""
TRAIN = """
RUN.write_status(state="running", trainer=identify(os.getpid()).to_json())
while not RUN.stop_requested and not (RUN.path / "go").exists():
    time.sleep(0.02)
RUN.write_status(outcome="stopped" if RUN.stop_requested else "finished")
"""
Make = Callable[..., RunFolder]


def until(true: Callable[[], object], what: str, limit_s: float = 40.0) -> None:
    deadline = time.monotonic() + limit_s
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def let_end(run: RunFolder) -> None:
    """Let its trainer finish."""
    (run.path / "go").touch()


def who(run: RunFolder, role: str) -> ProcessIdentity:
    found = identity_in(run.status(), role)
    assert found is not None, f"{role} of {run.id}: {run.status()}"
    return found


def kill(run: RunFolder, role: str) -> ProcessIdentity:
    identity = who(run, role)
    os.kill(identity.pid, signal.SIGKILL)
    until(lambda: not is_alive(identity), f"the {role} dies")
    return identity


def queue_processes(workspace: Path) -> list[psutil.Process]:
    """The processes that wait for this workspace's leases."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        command = process.info["cmdline"] or []
        if command[-2:] == ["lora_backend.runs.queue", str(workspace)] and process.info["status"] != "zombie":
            found.append(process)
    return found


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Makes runs in the workspace `tmp_path`; at the end all that still lives of them is killed."""
    runs: list[RunFolder] = []

    def make(script: str = TRAIN, *uuids: str, state: str = "starting", **attempt: Any) -> RunFolder:
        path = tmp_path / "runs" / f"run{len(runs)}"
        argv = [sys.executable, "-c", HEAD + script, str(path)]
        run = RunFolder.create(path.parent, config={"r": 4}, config_text="r: 4\n", argv=argv, path=path, state=state)
        run.new_attempt(device_uuids=list(uuids), **attempt)
        runs.append(run)
        return run

    yield make
    for run in runs:
        if run.status().get("state") == "queued":
            run.request_stop()
    for process in queue_processes(tmp_path):
        process.kill()
    for run in runs:
        for role in ("supervisor", "child", "trainer"):
            found = identity_in(run.status(), role)
            if found and found.pid != os.getpid() and is_alive(found):
                os.kill(found.pid, signal.SIGKILL)


@pytest.fixture(scope="session")
def faults(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The preload library, compiled."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler")
    library = tmp_path_factory.mktemp("preload") / "faults.so"
    source = Path(__file__).parent / "preload" / "faults.c"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(source), "-ldl"], check=True)
    return library
