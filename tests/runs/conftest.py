"""Runs with stand-in trainers, and a library that makes their disk full or sets their clock."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lora_backend.runs.record.process_identity import is_alive
from lora_backend.runs.record.run_store import RunStore
from lora_backend.runs.record.transitions import request_stop
from tests.hardware.nvml import compiler
from tests.run_files import add_start, make_run, process_of, status_of
from tests.runs.stand_in import HEAD, TRAIN, Make, queue_processes


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Makes runs in the workspace `tmp_path`; at the end all that still lives of them is killed."""
    runs: list[RunStore] = []

    def make(script: str = TRAIN, *uuids: str, state: str = "starting", **attempt: Any) -> RunStore:
        path = tmp_path / "runs" / f"run{len(runs)}"
        argv = [sys.executable, "-c", HEAD + script, str(path)]
        run = make_run(path.parent, config={"r": 4}, config_text="r: 4\n", argv=argv, path=path, state=state)
        add_start(run, device_uuids=list(uuids), **attempt)
        runs.append(run)
        return run

    yield make
    for run in runs:
        if status_of(run).get("state") == "queued":
            request_stop(run)
    for process in queue_processes(tmp_path):
        process.kill()
    for run in runs:
        for role in ("supervisor", "child", "trainer"):
            found = process_of(run, role)
            if found and found.pid != os.getpid() and is_alive(found):
                os.kill(found.pid, signal.SIGKILL)


@pytest.fixture(scope="session")
def faults(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The preload library, compiled."""
    library = tmp_path_factory.mktemp("preload") / "faults.so"
    source = Path(__file__).parent / "preload" / "faults.c"
    subprocess.run([*compiler(), "-shared", "-fPIC", "-O1", "-o", str(library), str(source), "-ldl"], check=True)
    return library
