"""A real training on each of the clusters, begun, stopped and resumed by the commands; and by submitit's own executor here."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from submitit import LocalExecutor

from lora_backend.clusters.cluster import Task
from lora_backend.clusters.slurm_jobs import FILES, submit_by
from lora_backend.config.config_writing import dump_yaml
from lora_backend.runs.processes.recovery import recover
from lora_backend.runs.processes.supervisor import start_supervisor
from lora_backend.runs.record.run_store import list_runs
from tests.clusters.by_commands import is_at, run_cli, start, whole_run
from tests.clusters.conftest import MakeRun
from tests.clusters.ray_server import RayServer
from tests.clusters.stub_slurm import StubSlurm
from tests.run_files import add_start, log_tail, status_of
from tests.runs.stand_in import let_end
from tests.stub_runs import stub_runs
from tests.waiting import until

Make = Callable[..., dict[str, Any]]


def test_slurm_trains_a_run_that_is_planned_where_it_trains(
    slurm: StubSlurm, config: Make, workspace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--on", "slurm", "--cluster", "partition=gpu", "--cluster", "gpus_per_node=0"]
    run = start(config(max_steps=2), words, tmp_path, capsys)
    assert run.read_attempt().plan is None
    until(lambda: recover(run).has_ended, "it ends", 250)
    assert (run.state().state, run.state().step) == ("finished", 2), log_tail(run, 4000)
    assert run.read_attempt().plan is not None
    assert "gpus-per-node" not in slurm.job(101)["asked"]
    code, said = run_cli(["runs", "show", run.id], capsys)
    assert code == 0
    assert "Slurm job 101 on node7: COMPLETED." in said
    assert "submitted to Slurm as job 101" in log_tail(run, 200_000)


def test_a_run_goes_on_by_another_job_with_what_is_asked_for_anew(
    slurm: StubSlurm, workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = stub_runs(workspace)
    run = next(runs)("again")
    add_start(run, cluster={"kind": "slurm", "parameters": {"timeout_min": 5, "partition": "gpu"}})
    start_supervisor(run)
    until(lambda: run.state().state == "running", "it runs")
    assert run_cli(["runs", "stop", run.id, "--wait"], capsys)[0] == 0
    code, said = run_cli(["runs", "resume", run.id, "--cluster", "timeout_min=600"], capsys)
    assert code == 0, said
    until(lambda: recover(run).state == "running", "it runs again")
    let_end(run)
    until(lambda: recover(run).has_ended, "it ends")
    assert run.state().state == "finished"
    asked = [slurm.job(number)["asked"] for number in slurm.ids]
    assert [(one["time"], one["partition"]) for one in asked] == [("5", "gpu"), ("600", "gpu")]
    assert next(runs, None) is None


@pytest.mark.soak
def test_slurm_trains_a_run_that_is_stopped_and_resumed(
    slurm: StubSlurm, config: Make, workspace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = config(max_steps=2000, save_steps=1000)
    whole_run(settings, ["--on", "slurm", "--cluster", "partition=gpu"], tmp_path, capsys)
    assert [slurm.job(number)["asked"]["partition"] for number in slurm.ids] == ["gpu", "gpu"]


@pytest.mark.soak
def test_ray_trains_a_run_that_is_stopped_and_resumed(
    ray: RayServer, config: Make, workspace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole_run(config(max_steps=2000, save_steps=1000), ["--on", "ray"], tmp_path, capsys)
    assert list(ray.jobs)
    assert ray.stops == []


def test_submitits_own_executor_runs_a_job_whose_end_the_folder_tells(make: MakeRun) -> None:
    run = make()
    environment = {"FLIGHTDECK_SUPERVISED": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    task = Task("name", 1, run.path, run.read_record().argv or [sys.executable], environment)
    executor = LocalExecutor(run.path / FILES)
    assert submit_by(executor, task).isdecimal()
    until(lambda: status_of(run).get("state") == "running", "it trains")
    let_end(run)
    until(lambda: status_of(run).get("outcome") == "finished", "it ends")


def test_words_that_no_cluster_has_start_nothing(
    slurm: StubSlurm, config: Make, workspace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(dump_yaml(config()))
    for words, said in (
        (["--on", "slurm", "--cluster", "particion=gpu"], "Did you mean `partition`?"),
        (["--on", "slurm", "--cluster", "partition"], "Write --cluster key=value."),
        (["--cluster", "partition=gpu"], "Choose one with `--on slurm` or `--on ray`."),
        (["--on", "ray"], "`--address http://HEAD:8265`"),
        (["--on", "ray", "--address", "http://127.0.0.1:9"], "Ray does not answer at http://127.0.0.1:9"),
    ):
        code, out = run_cli(["runs", "start", str(path), *words], capsys)
        assert code == 2
        assert said in out
    path.write_text(dump_yaml(config(num_nodes=2)))
    code, out = run_cli(["runs", "start", str(path), "--on", "slurm"], capsys)
    assert code != 0
    assert "num_nodes" in out
    assert list_runs(workspace / "runs") == []
    assert slurm.ids == []


@pytest.mark.soak
def test_two_processes_of_a_job_train_together_and_stop_when_the_cluster_warns_them(
    slurm: StubSlurm, config: Make, workspace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = config(max_steps=2000, save_steps=1000, strategy="ddp", num_processes=2, target_batch_size=8)
    run = start(settings, ["--on", "slurm", "--cluster", "gpus_per_node=0"], tmp_path, capsys)
    until(lambda: is_at(run, 2), "it trains", 250)
    attempt, status = run.read_attempt(), run.read_status().attempt
    assert (attempt.strategy, attempt.num_processes, len(status.peers)) == ("ddp", 2, 2)
    assert status.trainer is not None
    os.kill(status.trainer.pid, signal.SIGUSR2)
    until(lambda: recover(run).has_ended, "it ends", 250)
    ended = run.state()
    assert (ended.state, ended.cause) == ("stopped", "signal"), log_tail(run, 4000)
    assert ended.message is not None
    assert "SIGUSR2" in ended.message.text("en")
    assert (run.checkpoints / f"checkpoint-{ended.step}").is_dir()
    assert slurm.job(101)["cancels"] == []
