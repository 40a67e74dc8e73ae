"""Runs that Slurm trains, by stand-ins of its commands that really run the job."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from lora_backend.clusters.cluster import Look
from lora_backend.clusters.slurm_jobs import Slurm
from lora_backend.runs.processes import cluster_job
from lora_backend.runs.processes.recovery import recover
from lora_backend.runs.processes.supervisor import start_supervisor
from lora_backend.runs.record.process_identity import is_alive
from lora_backend.runs.record.run_store import RunStore
from lora_backend.runs.record.transitions import request_stop
from tests.clusters.conftest import Follow, MakeRun
from tests.clusters.stub_slurm import StubSlurm
from tests.often import often
from tests.run_files import log_tail, set_status, status_of
from tests.runs.stand_in import DEAF, NEVER, kill, let_end
from tests.waiting import until


def detail(run: RunStore) -> str:
    found = run.state().detail
    return found.text("en") if found else ""


def has_ended(run: RunStore) -> bool:
    return run.exit_json.exists()


def runs(run: RunStore) -> bool:
    return run.state().state == "running"


def test_a_job_that_waits_says_why_and_then_trains(slurm: StubSlurm, make: MakeRun) -> None:
    slurm.be("hold", "Resources")
    run = make(partition="gpu", gpus_per_node=2, timeout_min=90)
    start_supervisor(run)
    until(lambda: "Resources" in detail(run), "it says why it waits")
    assert detail(run).startswith("Slurm job 101 has been PENDING since ")
    assert detail(run).endswith(": Resources (it is waiting for the resources it asked for).")
    assert run.state().state == "starting"
    asked = slurm.job(101)["asked"]
    assert (asked["partition"], asked["gpus-per-node"], asked["time"]) == ("gpu", "2", "90")
    assert {"no-requeue", "signal"} <= asked.keys()
    assert "wckey" not in asked
    slurm.start(101)
    until(lambda: runs(run) and detail(run) == "", "it runs, and waits no more")
    let_end(run)
    until(lambda: has_ended(run), "it ends")
    assert run.state().state == "finished"
    job = run.read_status().attempt.job
    assert job is not None
    assert (job.id, job.state, job.host, job.exit_code, job.is_over) == ("101", "COMPLETED", "node7", 0, True)
    assert status_of(run).get("child") is None


def test_a_stop_of_a_job_that_waits_cancels_it(slurm: StubSlurm, make: MakeRun, follow: Follow) -> None:
    slurm.be("hold", "PartitionTimeLimit")
    run = make()
    follow(run)
    until(lambda: "lower `timeout_min`" in detail(run), "it says what would help")
    request_stop(run, "someone")
    until(lambda: has_ended(run), "it is cancelled")
    ended = run.state()
    assert (ended.state, ended.cause, run.read_status().started_at) == ("stopped", "cancelled", None)
    assert slurm.job(101)["state"] == "CANCELLED"


def test_a_stop_is_the_trainers_to_do_while_it_does_it(slurm: StubSlurm, make: MakeRun, follow: Follow) -> None:
    run = make()
    follow(run)
    until(lambda: runs(run), "it runs")
    request_stop(run)
    until(lambda: has_ended(run), "it ends")
    assert (run.state().state, run.state().cause, slurm.job(101)["cancels"]) == ("stopped", None, [])


def test_a_job_that_has_started_since_it_was_last_looked_at_is_not_cancelled_as_one_that_waits(
    slurm: StubSlurm, make: MakeRun, follow: Follow, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, look = make(), Slurm.look
    slurm.be("hold", "Resources")
    seen: list[Look | None] = []

    def as_before(cluster: Slurm, job_id: str) -> Look | None:
        if not seen or run.stop_request.exists():
            seen.append(look(cluster, job_id))
        return seen[-1]

    monkeypatch.setattr(Slurm, "look", as_before)
    follow(run)
    until(lambda: "Resources" in detail(run), "it waits")
    slurm.start(101)
    until(lambda: runs(run), "it runs")
    request_stop(run)
    until(lambda: has_ended(run), "the trainer ends it")
    assert (run.state().state, run.state().cause, slurm.job(101)["cancels"]) == ("stopped", None, [])


def test_a_stop_that_does_not_stop_is_followed_until_it_does(slurm: StubSlurm, make: MakeRun, follow: Follow) -> None:
    slurm.be("deaf", "3")
    run = make(script=DEAF + NEVER)
    follow(run)
    until(lambda: runs(run), "it runs")
    request_stop(run, deadline_s=0.2)
    until(lambda: "is still RUNNING" in detail(run), "it says that it goes on")
    assert not has_ended(run), "no end is told before there is one"
    until(lambda: has_ended(run), "it ends at last")
    ended = run.state()
    assert (ended.state, ended.cause) == ("stopped", "stop_deadline")
    assert ended.message is not None
    assert "job 101 was cancelled" in ended.message.text("en")
    job = slurm.job(101)
    assert job["cancels"][0] == "TERM"
    assert "KILL" in job["cancels"][1:]
    assert "cancelled again" in log_tail(run)


def test_a_supervisor_that_died_is_followed_by_one_that_goes_on_with_its_job(slurm: StubSlurm, make: MakeRun) -> None:
    run = make()
    start_supervisor(run)
    until(lambda: runs(run), "it runs")
    kill(run, "supervisor")
    assert recover(run).state == "running"
    until(lambda: (found := run.read_status().attempt.supervisor) and is_alive(found), "another one goes on")
    let_end(run)
    until(lambda: has_ended(run), "it ends")
    assert (run.state().state, slurm.ids) == ("finished", [101])


def test_a_job_whose_number_was_not_written_down_is_found_by_its_name(
    slurm: StubSlurm, make: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    slurm.be("hold", "Priority")
    run = make()
    start_supervisor(run)
    until(lambda: (job := run.read_status().attempt.job) and job.id, "it is submitted")
    supervisor = kill(run, "supervisor")
    job = run.read_status().attempt.job
    assert job is not None
    set_status(run, job=job.but(id=None, state=None))
    recover(run)
    until(
        lambda: "Slurm job 101" in detail(run) and (job := run.read_status().attempt.job) and job.id == "101",
        "it is found",
    )
    assert run.read_status().attempt.supervisor != supervisor
    request_stop(run)
    until(lambda: has_ended(run), "it is cancelled")


@pytest.mark.parametrize(
    ("state", "cause"),
    often(
        [
            ("OUT_OF_MEMORY", "job_out_of_memory"), ("TIMEOUT", "job_timeout"), ("NODE_FAIL", "job_machine"),
            ("PREEMPTED", "job_preempted"), ("CANCELLED", "job_cancelled"),
        ],
        {("OUT_OF_MEMORY", "job_out_of_memory"), ("CANCELLED", "job_cancelled")},
    ),
)  # fmt: skip
def test_an_end_of_which_the_trainer_knows_nothing_is_told_in_slurms_words(
    state: str, cause: str, slurm: StubSlurm, make: MakeRun, follow: Follow
) -> None:
    slurm.be("forget")
    run = make(script=DEAF + NEVER)
    follow(run)
    until(lambda: runs(run), "it runs")
    slurm.end(101, state)
    until(lambda: has_ended(run), "it ends")
    ended = run.state()
    assert (ended.state, ended.cause) == ("failed", cause)
    assert ended.message is not None
    assert ended.remedy is not None
    assert "None" not in ended.message.text("en")


def test_a_job_that_slurm_refuses_says_so_in_its_words(slurm: StubSlurm, make: MakeRun, follow: Follow) -> None:
    slurm.be("refuse", "Invalid partition name specified")
    run = make(partition="gqu")
    follow(run)
    until(lambda: has_ended(run), "it ends")
    ended = run.state()
    assert (ended.state, ended.cause) == ("failed", "job_refused")
    assert ended.message is not None
    assert "Invalid partition name specified" in ended.message.text("en")


def test_a_machine_that_does_not_see_the_workspace_is_named(slurm: StubSlurm, make: MakeRun, follow: Follow) -> None:
    slurm.be("blind")
    run = make()
    follow(run)
    until(lambda: has_ended(run), "it ends")
    ended = run.state()
    assert ended.cause == "job_blind"
    assert ended.message is not None
    assert ended.message.text("en") == f"The machine node7 cannot see {run.path}."


def test_a_controller_that_does_not_answer_ends_nothing(slurm: StubSlurm, make: MakeRun, follow: Follow) -> None:
    run = make()
    follow(run)
    until(lambda: runs(run), "it runs")
    slurm.be("down")
    until(lambda: "Unable to contact slurm controller" in detail(run), "it says so")
    assert run.state().state == "running"
    slurm.be("down", None)
    until(lambda: detail(run) == "", "it says no more that nobody answers")
    let_end(run)
    until(lambda: has_ended(run), "it ends")
    assert run.state().state == "finished"


def test_what_a_job_says_before_its_trainer_stands_in_the_runs_log(
    slurm: StubSlurm, make: MakeRun, follow: Follow, tmp_path: Path
) -> None:
    run = make(script="sys.exit(3)")
    srun = slurm.bin / "srun"
    text = srun.read_text()
    srun.write_text(text.replace("os.execvp(", "print('slurmstepd: error: no such device', flush=True); os.execvp("))
    follow(run)
    until(lambda: has_ended(run), "it ends")
    assert (run.state().state, run.state().cause) == ("failed", "job_failed")
    assert "slurmstepd: error: no such device" in log_tail(run)


def test_a_job_that_is_forgotten_is_not_said_to_go_on(
    slurm: StubSlurm, make: MakeRun, follow: Follow, monkeypatch: pytest.MonkeyPatch
) -> None:
    slurm.be("hold", "Resources")
    run = make()
    follow(run)
    until(lambda: "Resources" in detail(run), "it waits")
    (slurm.home / "jobs" / "101.json").unlink()
    until(lambda: has_ended(run), "nobody knows it")
    assert (run.state().state, run.state().cause) == ("failed", "job_unknown")


def test_a_run_whose_folder_is_gone_leaves_no_job(slurm: StubSlurm, make: MakeRun, follow: Follow, monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    monkeypatch.setattr(cluster_job, "GONE_AFTER_S", 0.2)
    slurm.be("hold", "Resources")
    run = make()
    watching = follow(run)
    until(lambda: "Resources" in detail(run), "it waits")
    run.path.rename(run.path.with_name("elsewhere"))
    until(lambda: slurm.job(101)["state"] == "CANCELLED", "its job is cancelled")
    watching.join(20)
    assert not watching.is_alive()


def test_a_copied_folder_decides_on_no_job(slurm: StubSlurm, make: MakeRun, follow: Follow, tmp_path: Path) -> None:
    slurm.be("hold", "Resources")
    run = make()
    run.run_json.write_text(run.run_json.read_text().replace('"argv_seal": "', '"argv_seal": "0'))
    follow(run)
    until(lambda: has_ended(run), "it ends")
    assert (run.state().state, slurm.ids) == ("failed", [])


def test_a_trainer_that_the_cluster_warns_is_asked_to_stop(make: MakeRun) -> None:
    from lora_backend.installation import this_installation
    from lora_backend.runs.processes.signals import StopSignals

    run = make()
    with StopSignals(run, this_installation()):
        os.kill(os.getpid(), signal.SIGUSR2)
        until(lambda: run.stop_request.exists(), "it is heard")
    request = run.read_stop_request()
    assert request is not None
    assert request.signal == "SIGUSR2"
