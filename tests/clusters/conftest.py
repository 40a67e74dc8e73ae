"""Runs that a stand-in of a cluster trains, and what ends them when a test is over."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lora_backend.installation import this_installation
from lora_backend.runs.processes import cluster_job, job_end
from lora_backend.runs.processes.supervisor import supervise
from lora_backend.runs.record.process_identity import is_alive
from lora_backend.runs.record.run_store import RunStore, new_run_id
from tests.clusters.ray_server import RayServer
from tests.clusters.stub_slurm import StubSlurm
from tests.run_files import add_start, make_run, process_of
from tests.runs.stand_in import HEAD, TRAIN

MakeRun = Callable[..., RunStore]
Follow = Callable[[RunStore], threading.Thread]


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StubSlurm]:
    """Slurm's commands on the PATH."""
    stub = StubSlurm(tmp_path / "slurm")
    monkeypatch.setenv("PATH", f"{stub.bin}{os.pathsep}{os.environ['PATH']}")
    yield stub
    stub.close()


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> Iterator[RayServer]:
    """A dashboard of Ray's, named by the environment."""
    with RayServer() as server:
        monkeypatch.setenv("RAY_API_SERVER_ADDRESS", server.address)
        yield server


@pytest.fixture
def make(tmp_path: Path) -> Iterator[MakeRun]:
    """Makes runs that a cluster is to train by a few lines of Python."""
    runs: list[RunStore] = []

    def make(kind: str = "slurm", script: str = TRAIN, address: str | None = None, **parameters: Any) -> RunStore:
        path = tmp_path / "ws" / "runs" / new_run_id()  # a real cluster outlives a test, and knows a job by it
        argv = [sys.executable, "-c", HEAD + script, str(path)]
        run = make_run(path.parent, config={"r": 4}, config_text="r: 4\n", argv=argv, path=path, state="starting")
        asked = {"kind": kind, "parameters": parameters} | ({"address": address} if address else {})
        add_start(run, cluster=asked)
        runs.append(run)
        return run

    yield make
    for run in runs:
        for role in ("supervisor", "trainer"):
            found = process_of(run, role)
            if found and found.pid != os.getpid() and is_alive(found):
                os.kill(found.pid, signal.SIGKILL)


@pytest.fixture
def follow(monkeypatch: pytest.MonkeyPatch) -> Iterator[Follow]:
    """Be a run's supervisor in this process, one that does not wait long for anything."""
    for name, seconds in {"TICK_S": 0.02, "ASK_FIRST_S": 0.05, "ASK_AT_MOST_S": 0.2, "AGAIN_AFTER_S": 0.3, "UNKNOWN_FOR_S": 1.0}.items():  # fmt: skip
        monkeypatch.setattr(cluster_job, name, seconds)
    monkeypatch.setattr(job_end, "SAID_WITHIN_S", 0.3)
    threads: list[threading.Thread] = []

    def follow(run: RunStore) -> threading.Thread:
        threads.append(threading.Thread(target=supervise, args=(run, this_installation()), daemon=True))
        threads[-1].start()
        return threads[-1]

    yield follow
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive(), "every run of a test has ended"
