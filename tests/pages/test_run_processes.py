"""The page of a run that several processes train: each of them with its log."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lora_backend.installation import this_installation
from lora_backend.runs.record.peer_documents import PeerProcess
from lora_backend.runs.record.process_identity import identify
from lora_backend.runs.record.run_store import RunStore
from tests.pages.screens import show, texts
from tests.run_files import end_run, make_run


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunStore:
    monkeypatch.setenv("FLIGHTDECK_WORKSPACE", str(tmp_path / "ws"))
    monkeypatch.setenv("FLIGHTDECK_HOME", str(tmp_path / "home"))
    run = make_run(this_installation().runs, config={"model_name": "m"}, config_text="model_name: m\n", argv=["true"])
    run.train_log.write_text("of the first\n")
    return run


def trained_by_two(run: RunStore) -> None:
    run.peer_logs.mkdir()
    run.peer_log(1).write_text("of the second\n")
    here = identify(os.getpid())
    with run.changing_status() as status:
        status.attempt.peers = [
            PeerProcess(rank=0, host="one", process=here, device="cuda:0", is_done=True),
            PeerProcess(rank=1, host="one", process=here, device="cuda:1"),
        ]


def test_each_process_is_listed_and_its_log_is_chosen(run: RunStore) -> None:
    trained_by_two(run)
    end_run(run, "stopped")
    at = show("runs", run=run.id)
    (table,) = [one.value for one in at.table if "Device" in one.value.columns]
    assert list(table.index) == ["0", "1"]
    assert list(table["Device"]) == ["cuda:0", "cuda:1"]
    assert list(table["State"]) == ["done", "running"]
    assert at.code[0].value == "of the first"
    chosen = at.segmented_control(key=f"log-rank-{run.id}")
    assert chosen.options == ["Process 0", "Process 1"]
    assert chosen.set_value(1).run().code[0].value == "of the second"


def test_one_process_has_one_log_and_no_choice(run: RunStore) -> None:
    end_run(run, "stopped")
    at = show("runs", run=run.id)
    assert f"log-rank-{run.id}" not in [one.key for one in at.segmented_control]
    assert "PID" not in texts(at)
