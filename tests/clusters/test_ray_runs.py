"""Runs that Ray trains, by a server that speaks its job API; a real Ray stands in `test_real_ray.py`."""

from __future__ import annotations

import pytest

from lora_backend.clusters.cluster import ClusterError, ClusterSilentError
from lora_backend.clusters.cluster_documents import ClusterRequest
from lora_backend.clusters.cluster_request import cluster_of
from lora_backend.runs.processes.recovery import recover
from lora_backend.runs.processes.supervisor import start_supervisor
from lora_backend.runs.record.process_identity import is_alive
from lora_backend.runs.record.run_store import RunStore
from lora_backend.runs.record.transitions import request_stop
from tests.clusters.conftest import Follow, MakeRun
from tests.clusters.ray_server import RayServer
from tests.run_files import log_tail
from tests.runs.stand_in import DEAF, NEVER, kill, let_end
from tests.waiting import until


def detail(run: RunStore) -> str:
    found = run.state().detail
    return found.text("en") if found else ""


def has_ended(run: RunStore) -> bool:
    return run.exit_json.exists()


def runs(run: RunStore) -> bool:
    return run.state().state == "running"


def test_a_job_that_waits_says_why_and_then_trains(ray: RayServer, make: MakeRun, follow: Follow) -> None:
    ray.holds = True
    run = make("ray", address=ray.address, num_gpus=2, num_cpus=4, memory_gb=1.5)
    follow(run)
    until(lambda: "PENDING" in detail(run), "it says that it waits")
    assert "Ray drops it after 15 minutes" in detail(run)
    (name,) = ray.jobs
    asked = ray.jobs[name]["asked"]
    assert (name, asked["entrypoint_num_gpus"], asked["entrypoint_num_cpus"]) == (f"flightdeck-{run.id}-1", 2, 4)
    assert asked["entrypoint_memory"] == 1_500_000_000
    ray.start(name)
    until(lambda: runs(run), "it runs")
    let_end(run)
    until(lambda: has_ended(run), "it ends")
    assert run.state().state == "finished"
    job = run.read_status().attempt.job
    assert job is not None
    assert (job.id, job.state, job.host, job.exit_code, job.is_over) == (name, "SUCCEEDED", "10.0.0.7", 0, True)


@pytest.mark.parametrize("is_given_up", [True, False])
def test_a_stop_of_a_job_that_waits_ends_it_when_ray_lets_it_go(
    is_given_up: bool, ray: RayServer, make: MakeRun, follow: Follow
) -> None:
    """Ray's stop of a job that has not started says True and changes nothing until it starts."""
    ray.holds = True
    run = make("ray", address=ray.address)
    follow(run)
    until(lambda: "PENDING" in detail(run), "it waits")
    request_stop(run)
    until(lambda: "Ray cannot cancel a job that has not started" in detail(run), "it says so")
    assert run.state().state == "stopping"
    (name,) = ray.jobs
    if is_given_up:
        ray.give_up(name)
    else:
        ray.start(name)
    until(lambda: has_ended(run), "it is gone")
    assert (run.state().state, run.state().cause) == ("stopped", "cancelled")
    assert run.read_status().attempt.trainer is None


def test_a_job_that_ray_gives_up_says_what_would_help(ray: RayServer, make: MakeRun, follow: Follow) -> None:
    ray.holds = True
    run = make("ray", address=ray.address)
    follow(run)
    until(lambda: "PENDING" in detail(run), "it waits")
    (name,) = ray.jobs
    ray.give_up(name)
    until(lambda: has_ended(run), "it is given up")
    assert (run.state().state, run.state().cause) == ("failed", "job_given_up")


def test_a_stop_that_says_true_and_stops_nothing_is_asked_for_again(
    ray: RayServer, make: MakeRun, follow: Follow
) -> None:
    ray.num_deaf = 2
    run = make("ray", DEAF + NEVER, address=ray.address)
    follow(run)
    until(lambda: runs(run), "it runs")
    request_stop(run, deadline_s=0.1)
    until(lambda: "is still RUNNING" in detail(run), "it says that it goes on")
    until(lambda: has_ended(run), "it ends at last")
    assert (run.state().state, run.state().cause, len(ray.stops)) == ("stopped", "stop_deadline", 3)


def test_a_dashboard_that_does_not_answer_ends_nothing(ray: RayServer, make: MakeRun, follow: Follow) -> None:
    run = make("ray", address=ray.address)
    follow(run)
    until(lambda: runs(run), "it runs")
    ray.is_down = True
    until(lambda: "Ray does not answer at" in detail(run), "it says so")
    ray.is_down = False
    let_end(run)
    until(lambda: has_ended(run), "it ends")
    assert run.state().state == "finished"


@pytest.mark.soak
def test_a_supervisor_that_died_is_followed_by_one_that_goes_on_with_its_job(ray: RayServer, make: MakeRun) -> None:
    run = make("ray", address=ray.address)
    start_supervisor(run)
    until(lambda: runs(run), "it runs")
    kill(run, "supervisor")
    assert recover(run).state == "running"
    until(lambda: (found := run.read_status().attempt.supervisor) and is_alive(found), "another one goes on")
    let_end(run)
    until(lambda: has_ended(run), "it ends")
    assert (run.state().state, len(ray.jobs)) == ("finished", 1)


def test_a_job_that_fails_without_a_word_is_told_in_rays(ray: RayServer, make: MakeRun, follow: Follow) -> None:
    run = make("ray", "print('no such library', flush=True); sys.exit(3)", address=ray.address)
    follow(run)
    until(lambda: has_ended(run), "it ends")
    ended = run.state()
    assert (ended.state, ended.cause) == ("failed", "job_failed")
    assert ended.message is not None
    assert "FAILED (3)" in ended.message.text("en")
    assert "no such library" in log_tail(run)


def test_a_machine_that_does_not_see_the_workspace_is_named(ray: RayServer, make: MakeRun, follow: Follow) -> None:
    ray.holds = True
    run = make("ray", address=ray.address)
    follow(run)
    until(lambda: "PENDING" in detail(run), "it waits")
    (name,) = ray.jobs
    asked = ray.jobs[name]["asked"]
    asked["entrypoint"] = asked["entrypoint"].replace(f"test -f {run.path}", "test -f /nowhere")
    ray.start(name)
    until(lambda: has_ended(run), "it ends")
    ended = run.state()
    assert ended.cause == "job_blind"
    assert ended.message is not None
    assert ended.message.text("en") == f"The machine 10.0.0.7 cannot see {run.path}."


def test_a_job_that_ray_refuses_says_so_in_its_words(ray: RayServer, make: MakeRun, follow: Follow) -> None:
    ray.refuses = "Job with submission_id x already exists"
    run = make("ray", address=ray.address)
    follow(run)
    until(lambda: has_ended(run), "it ends")
    assert run.state().cause == "job_refused"
    message = run.state().message
    assert message is not None
    assert "Ray refused the job: ValueError: Job with submission_id x already exists." in message.text("en")


def test_a_token_is_shown_to_ray_and_stands_in_no_file(
    ray: RayServer, make: MakeRun, follow: Follow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "secret-of-the-cluster")
    monkeypatch.setenv("HF_TOKEN", "secret-of-the-hub")
    run = make("ray", address=ray.address)
    follow(run)
    until(lambda: runs(run), "it runs")
    let_end(run)
    until(lambda: has_ended(run), "it ends")
    assert set(ray.tokens) == {"Bearer secret-of-the-cluster"}
    assert "secret" not in str(ray.jobs)
    assert not [path for path in run.path.rglob("*") if path.is_file() and b"secret-of" in path.read_bytes()]


def test_an_address_where_nothing_answers_is_named_with_what_to_do() -> None:
    asked = ClusterRequest(kind="ray", address="http://127.0.0.1:9", parameters={})
    with pytest.raises(ClusterSilentError, match=r"Ray does not answer at http://127\.0\.0\.1:9: .* Check the address"):
        cluster_of(asked, {}).check()
    with pytest.raises(ClusterError, match="`--address http://HEAD:8265`"):
        cluster_of(ClusterRequest(kind="ray"), {}).check()
