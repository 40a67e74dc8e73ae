"""Real processes: the command line trains, stops, runs out of disk; the supervisor reaps; the worker answers."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from safetensors.torch import load_file

from lora_backend.config.files import dump_yaml
from lora_backend.errors import WorkerError
from lora_backend.runs.folder import RunFolder
from lora_backend.runs.supervisor import start_supervisor
from lora_backend.settings import child_environment
from lora_backend.worker_client import WorkerClient

Make = Callable[..., dict[str, Any]]
CLI = [sys.executable, "-m", "lora_backend"]


def until(condition: Callable[[], Any], limit_s: float = 90.0) -> Any:
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.05)
    raise AssertionError(f"not within {limit_s} s: {condition}")


def written(tmp_path: Path, values: dict[str, Any]) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(dump_yaml(values))
    return path


def test_the_command_line_trains_and_prints_one_document(config: Make, tmp_path: Path, workspace: Path) -> None:
    command = [
        *CLI,
        "train",
        str(written(tmp_path, config())),
        "--set",
        "num_epochs=1",
        "--json",
        "--run-dir",
        str(tmp_path / "mine"),
    ]
    done = subprocess.run(command, env=child_environment(), capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["state"] == "finished"
    folder = RunFolder(tmp_path / "mine")
    assert folder.state().total_steps == 4
    assert folder.read_run()["config"]["num_epochs"] == 1

    verify = [*CLI, "verify", str(folder.path), "--json"]
    checked = subprocess.run(verify, env=child_environment(), capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr
    document = json.loads(checked.stdout)
    assert {part["part"]: part["verdict"] for part in document["passport"]} == dict.fromkeys(
        ("config", "tensors", "adapter_config", "base_model", "data"), "same"
    )

    bad = subprocess.run(
        [*CLI, "train", str(written(tmp_path, config(r="four")))],
        env=child_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (bad.returncode, "Traceback" in bad.stderr) == (1, False)


def test_a_supervised_run_is_stopped_with_a_checkpoint(config: Make, workspace: Path) -> None:
    values = config(num_epochs=100_000)
    path = workspace / "runs" / "supervised"
    argv = [*CLI, "train", str(path / "config.yaml"), "--run-dir", str(path)]
    folder = RunFolder.create(workspace / "runs", config=values, config_text=dump_yaml(values), argv=argv, path=path)
    start_supervisor(folder)
    until(lambda: folder.state().step > 3)
    assert folder.state().state == "running"
    folder.request_stop()
    until(lambda: folder.state().has_ended)
    assert folder.state().state == "stopped"
    (checkpoint,) = folder.checkpoints.iterdir()
    assert load_file(checkpoint / "adapter_model.safetensors")


def test_a_trainer_that_is_killed_is_said_to_be(config: Make, workspace: Path) -> None:
    values = config(num_epochs=100_000)
    path = workspace / "runs" / "killed"
    argv = [*CLI, "train", str(path / "config.yaml"), "--run-dir", str(path)]
    folder = RunFolder.create(workspace / "runs", config=values, config_text=dump_yaml(values), argv=argv, path=path)
    start_supervisor(folder)
    until(lambda: folder.state().step > 0)
    os.kill(folder.status()["trainer"]["pid"], signal.SIGKILL)
    until(lambda: folder.state().has_ended)
    state = folder.state()
    assert (state.state, state.cause) == ("failed", "killed")
    assert state.message is not None
    assert "SIGKILL" in state.message.text("en")


def test_when_the_disk_is_full_the_last_good_checkpoint_stays(config: Make, tmp_path: Path, workspace: Path) -> None:
    """A limit on file size, lowered while the run goes, fails the next checkpoint as a full disk would."""
    values = config(num_epochs=100_000, save_steps=40, save_total_limit=2, logging_steps=1000)
    folder = RunFolder(tmp_path / "full")
    command = [*CLI, "train", str(written(tmp_path, values)), "--run-dir", str(folder.path)]
    trainer = subprocess.Popen(command, env=child_environment(), stderr=subprocess.DEVNULL)
    try:
        until(lambda: (folder.checkpoints / "checkpoint-40" / "trainer_state.json").exists())
        resource.prlimit(trainer.pid, resource.RLIMIT_FSIZE, (8_000, 8_000))
        trainer.wait(90)
    finally:
        trainer.kill()
    state = folder.state()
    assert (state.state, state.cause) == ("failed", "disk_full")
    kept = sorted(folder.checkpoints.iterdir(), key=lambda path: int(path.name.split("-")[1]))
    assert kept
    for checkpoint in kept:
        assert (checkpoint / "trainer_state.json").exists(), "no half-written checkpoint is left"
        assert load_file(checkpoint / "adapter_model.safetensors")


def test_the_worker_answers_dies_and_comes_back(
    config: Make, workspace: Path, tiny_model: Path, tmp_path: Path
) -> None:
    from tests.training.test_run import run

    adapter = run(workspace, config(num_epochs=1)).adapter
    client = WorkerClient()
    question = {"adapter": str(adapter), "model_name": str(tiny_model), "config": {"r": 4}}
    seen: list[str] = []
    try:
        report = client.ask("check_loaded_ranks", question, 120, lambda message, _: seen.append(message.text("en")))
        assert report["status"] == "ok"
        assert seen
        with pytest.raises(WorkerError, match="adapter_config"):
            client.ask("check_loaded_ranks", question | {"adapter": str(tmp_path)}, 60)
        with pytest.raises(WorkerError, match="no_such_method"):
            client.ask("no_such_method", {}, 60)
        pid = client.pid
        assert pid
        request = client.submit("check_loaded_ranks", question)
        os.kill(pid, signal.SIGKILL)
        assert request.done.wait(30)
        assert request.error is not None or request.result is not None
        assert client.ask("check_loaded_ranks", question, 120)["status"] == "ok"
        assert client.pid != pid
    finally:
        client.close()


def test_the_worker_ends_with_its_dashboard() -> None:
    script = "from lora_backend.worker_client import WorkerClient; import time; c = WorkerClient(); c.submit('none', {}); print(c.pid, flush=True); time.sleep(600)"
    parent = subprocess.Popen(
        [sys.executable, "-c", script], env=child_environment(), stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    until(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE, 30)
