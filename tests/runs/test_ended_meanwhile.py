"""A run that ends while somebody looks at it: what was looked at before the end is not shown beside it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from lora_backend.runs.record.documents import Exit, Status
from lora_backend.runs.record.process_identity import identify
from lora_backend.runs.record.run_store import RunStore
from tests.run_files import end_run, make_run, set_status


@pytest.fixture
def run(tmp_path: Path) -> RunStore:
    """Under way, in a process that has ended."""
    begun = make_run(tmp_path / "ws" / "runs", config={"model_name": "m"}, config_text="", argv=["true"])
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    identity = identify(process.pid)
    assert identity
    process.communicate()
    set_status(begun, state="running", step=7, total_steps=8, trainer=identity.to_json(), supervisor=identity.to_json())
    return begun


def test_it_has_the_step_of_its_end(run: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
    read = RunStore.read_status

    def ends_then(store: RunStore) -> Status:
        before = read(store)
        monkeypatch.setattr(RunStore, "read_status", read)
        set_status(run, step=8)
        end_run(run, "finished")
        return before

    monkeypatch.setattr(RunStore, "read_status", ends_then)
    state = run.state()
    assert (state.state, state.step) == ("finished", 8)


def test_it_is_not_lost(run: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
    read = RunStore.read_exit

    def ends_then(store: RunStore) -> Exit | None:
        before = read(store)
        monkeypatch.setattr(RunStore, "read_exit", read)
        end_run(run, "finished")
        return before

    assert run.state().state == "lost"
    monkeypatch.setattr(RunStore, "read_exit", ends_then)
    assert run.state().state == "finished"
