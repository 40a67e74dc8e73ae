"""The long proofs, and what they found: each test's figures stand at the end of the report."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lora_backend.runs.record.process_identity import is_alive
from lora_backend.runs.record.run_store import RunStore
from tests.runs.stand_in import queue_processes
from tests.soak.real import supervisors_of, trainers_of

FIGURES = "figures"
Figures = Callable[[str], None]


@pytest.fixture
def figures(record_property: Callable[[str, object], None]) -> Figures:
    """Takes a line that is printed when all is done."""
    return lambda line: record_property(FIGURES, line)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    lines = [
        str(value)
        for outcome in ("passed", "failed", "skipped")
        for report in terminalreporter.stats.get(outcome, ())
        for name, value in report.user_properties
        if name == FIGURES
    ]
    if lines:
        terminalreporter.section("figures")
        for line in lines:
            terminalreporter.write_line(line)


@pytest.fixture
def ended_after(workspace: Path) -> Iterator[None]:
    """Whatever a failed test leaves running is ended."""
    yield
    for process in queue_processes(workspace):
        process.kill()
    for path in (workspace / "runs").glob("*"):
        run = RunStore(path)
        for identity in [*supervisors_of(run), *trainers_of(run)]:
            if is_alive(identity):
                os.kill(identity.pid, signal.SIGKILL)
