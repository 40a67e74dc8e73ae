"""Supervisor, queue process and trainer find queue, leases and the place of publication by the run's folder.

Each is started in another current folder and with another workspace in its environment, as by a service or a shell that
was set up for something else.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lora_backend.installation import child_environment
from lora_backend.runs.processes.leases import holders
from lora_backend.runs.processes.trainer_command import trainer_command
from lora_backend.runs.processes.waiting import enter, leases_folder
from lora_backend.runs.record.run_store import RunStore
from lora_backend.runs.record.states import ENDED
from tests.run_files import add_start, log_tail, make_run
from tests.training.helpers import made
from tests.waiting import until

Make = Callable[..., dict[str, Any]]
LIMIT_S = 240.0


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    (tmp_path / "elsewhere").mkdir()
    return tmp_path / "elsewhere"


@pytest.fixture
def run(config: Make, workspace: Path) -> RunStore:
    """A run that nobody has started; its `output_dir` is relative."""
    values = config(num_epochs=1, pkg="shop", version="1")
    return made(workspace, values, "one", trainer_command(workspace / "runs/one"))


def start(elsewhere: Path, *command: str) -> subprocess.Popen[bytes]:
    environment = child_environment(FLIGHTDECK_WORKSPACE=str(elsewhere / "ws"))
    return subprocess.Popen([sys.executable, "-m", *command], cwd=elsewhere, env=environment)


def was_published_at_home(run: RunStore, elsewhere: Path) -> bool:
    until(lambda: run.state().state in ENDED, "it ends", LIMIT_S)
    assert run.state().state == "finished", log_tail(run)
    assert list(elsewhere.iterdir()) == []
    return (run.workspace / "adapters/shop/1/adapter_model.safetensors").is_file()


@pytest.mark.timeout(600)
def test_a_trainer_leases_and_publishes_where_its_run_lies(run: RunStore, elsewhere: Path) -> None:
    process = start(elsewhere, "lora_backend", "train", "one.yaml", "--run-dir", str(run.path))
    until(lambda: holders(run.workspace / "leases", ["cpu"]), "it leases the processor", LIMIT_S)
    assert [holder.run for holder in holders(run.workspace / "leases", ["cpu"])] == [run.id]
    process.wait()
    assert was_published_at_home(run, elsewhere)


@pytest.mark.timeout(600)
def test_a_queue_process_and_its_supervisor_serve_the_workspace_of_their_runs(
    config: Make, workspace: Path, elsewhere: Path
) -> None:
    values = config(num_epochs=1, pkg="shop", version="1")
    path = workspace / "runs/one"
    run = make_run(path.parent, path=path, config=values, config_text="", argv=trainer_command(path), state="queued")
    add_start(run)
    enter(run, workspace)
    process = start(elsewhere, "lora_backend.runs.processes.queue", str(workspace))
    until(lambda: run.state().state != "queued", "it starts", LIMIT_S)
    assert [holder.run for holder in holders(leases_folder(workspace), ["cpu"])] == [run.id]
    assert was_published_at_home(run, elsewhere)
    process.wait()
    assert list((workspace / "queue").glob("*-one.json")) == []


@pytest.mark.timeout(600)
def test_a_supervisor_that_is_started_by_hand_does_the_same(run: RunStore, elsewhere: Path) -> None:
    start(elsewhere, "lora_backend.runs.processes.supervisor", str(run.path)).wait()
    assert was_published_at_home(run, elsewhere)
