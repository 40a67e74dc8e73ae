"""Runs whose trainer is a few lines of Python: real processes, leases and files, and nothing that takes a minute."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import psutil

from lora_backend.atomic import write_json
from lora_backend.installation import this_installation
from lora_backend.runs.processes.supervisor import start_supervisor
from lora_backend.runs.record.process_identity import ProcessIdentity, is_alive
from lora_backend.runs.record.run_store import RunStore
from lora_backend.runs.record.seal import seal_of
from tests.run_files import process_of, record_of, status_of
from tests.waiting import until

HEAD = """
import os, sys, time
from pathlib import Path
from lora_backend.runs.record.run_store import RunStore
from lora_backend.runs.record.process_identity import identify
from tests.run_files import add_point, set_status
RUN = RunStore(Path(sys.argv[1]))
"""
TRAIN = """
set_status(RUN, state="running", trainer=identify(os.getpid()).to_json())
while not RUN.stop_request.exists() and not (RUN.path / "go").exists():
    time.sleep(0.02)
set_status(RUN, outcome="stopped" if RUN.stop_request.exists() else "finished")
"""
DEAF = 'set_status(RUN, state="running", trainer=identify(os.getpid()).to_json())\n'
NEVER = "while True: time.sleep(0.05)\n"
Make = Callable[..., RunStore]


def running(make: Make) -> RunStore:
    """A run under its supervisor, whose trainer trains."""
    run = make()
    start_supervisor(run)
    until(lambda: run.state().state == "running", "it runs")
    return run


def let_end(run: RunStore) -> None:
    """Let its trainer finish."""
    (run.path / "go").touch()


def who(run: RunStore, role: str) -> ProcessIdentity:
    found = process_of(run, role)
    assert found is not None, f"{role} of {run.id}: {status_of(run)}"
    return found


def kill(run: RunStore, role: str) -> ProcessIdentity:
    identity = who(run, role)
    os.kill(identity.pid, signal.SIGKILL)
    until(lambda: not is_alive(identity), f"the {role} dies")
    return identity


def queue_processes(workspace: Path) -> list[psutil.Process]:
    """The processes that wait for this workspace's leases."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        command = process.info["cmdline"] or []
        if command[-2:] == ["lora_backend.runs.processes.queue", str(workspace)] and process.info["status"] != "zombie":
            found.append(process)
    return found


def under(run: RunStore, variables: dict[str, str]) -> None:
    """Let the run's trainer be started with more variables, by its own command."""
    about = record_of(run)
    argv = with_variables(about["argv"], variables)
    write_json(run.run_json, about | {"argv": argv, "argv_seal": seal_of(run.path, argv, this_installation().seal_key)})


def with_variables(argv: list[str], variables: dict[str, str]) -> list[str]:
    """A command line that sets them first."""
    return ["/usr/bin/env", *(f"{name}={value}" for name, value in variables.items()), *argv]
