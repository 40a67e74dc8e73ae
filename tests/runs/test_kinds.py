"""A run of any kind is queued, leased, watched, stopped, listed and begun again by what serves a training."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from lora_backend.atomic import write_json
from lora_backend.cli import main
from lora_backend.errors import RunError
from lora_backend.installation import this_installation
from lora_backend.runs.history.run_table import History, filtered
from lora_backend.runs.processes.leases import holders, release, take
from lora_backend.runs.processes.queue import start_or_queue
from lora_backend.runs.processes.supervisor import supervise
from lora_backend.runs.processes.trainer_command import command_of
from lora_backend.runs.processes.waiting import entries, leases_folder
from lora_backend.runs.record.documents import KINDS, Kind
from lora_backend.runs.record.run_store import RunStore
from lora_backend.runs.record.transitions import request_stop
from tests.run_files import log_tail, make_run, start_again
from tests.runs.stand_in import HEAD, TRAIN, let_end
from tests.waiting import until

OTHERS = [kind for kind in KINDS if kind != "train"]


def made(workspace: Path, kind: Kind, script: str = TRAIN, state: str = "queued") -> RunStore:
    path = workspace / "runs" / kind
    argv = [sys.executable, "-c", HEAD + "print('at work', flush=True)\n" + script, str(path), "--run-dir", str(path)]
    first = {"device_uuids": ["GPU-one"], "plan": {}}
    return make_run(path.parent, path=path, kind=kind, config={"adapter": "a"}, config_text="", argv=argv, state=state, attempt=first)  # fmt: skip


def test_a_job_of_another_kind_waits_for_its_device_is_watched_stopped_and_begun_again(workspace: Path) -> None:
    busy = take(leases_folder(workspace), ["GPU-one"], workspace / "runs" / "somebody")
    assert busy
    run = made(workspace, "evaluate")
    assert not start_or_queue(run, workspace)
    assert [entry.run.id for entry in entries(workspace)] == ["evaluate"]
    release(busy)
    until(lambda: run.state().state == "running", "its turn comes")
    assert {holder.run for holder in holders(leases_folder(workspace), ["GPU-one"])} == {"evaluate"}
    request_stop(run, "anna")
    until(run.exit_json.exists, "the end")
    assert (run.state().state, "at work" in log_tail(run)) == ("stopped", True)
    assert start_again(run, "queued", device_uuids=["GPU-one"], plan={}) == 2
    assert start_or_queue(run, workspace)
    until(lambda: run.state().state == "running", "it goes on")
    let_end(run)
    until(run.exit_json.exists, "the end")
    assert (run.state().state, run.read_record().kind) == ("finished", "evaluate")


@pytest.mark.parametrize("kind", OTHERS)
def test_the_command_of_another_kind_that_was_not_written_here_is_not_run(workspace: Path, kind: Kind) -> None:
    run = made(workspace, kind, "(RUN.path / 'ran').touch()", state="starting")
    write_json(run.run_json, run.read_record().to_json() | {"argv_seal": "another installation's"})
    with pytest.raises(RunError, match="was not started on this machine"):
        command_of(run, this_installation())
    supervise(run, this_installation())
    state = run.state()
    assert (state.state, state.cause) == ("failed", "start")
    assert state.message is not None
    assert "not started on this machine" in state.message.text("en")
    assert not (run.path / "ran").exists()


def test_the_list_shows_kinds_and_finds_by_them(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for kind in KINDS:
        made(workspace, kind, state="starting")
    rows = History(workspace / "runs").rows()
    assert {row.id: row.column("kind") for row in rows} == {kind: kind for kind in KINDS}
    assert [row.id for row in filtered(rows, "export")] == ["export"]
    assert main(["runs", "list", "--columns", "kind", "--json"]) == 0
    assert {run["id"]: run["kind"] for run in json.loads(capsys.readouterr().out)["runs"]} == {kind: kind for kind in KINDS}  # fmt: skip
