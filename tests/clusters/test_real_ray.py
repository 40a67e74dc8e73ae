"""A real Ray on this machine trains a run: submit, log, stop, resume. It needs the command `ray` of `ray[default]` on the
PATH; an environment of its own will do, for what trains is this one."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from lora_backend.clusters.cluster import ClusterError
from lora_backend.clusters.cluster_request import cluster_of, request_for
from lora_backend.runs.processes.recovery import recover
from lora_backend.runs.processes.supervisor import start_supervisor
from lora_backend.runs.record.run_store import RunStore
from lora_backend.runs.record.transitions import request_stop
from tests.clusters.by_commands import whole_run
from tests.clusters.conftest import MakeRun
from tests.run_files import log_tail
from tests.runs.stand_in import DEAF, NEVER, kill, let_end
from tests.waiting import until

Make = Callable[..., dict[str, Any]]
pytestmark = [
    pytest.mark.soak,
    pytest.mark.skipif(shutil.which("ray") is None, reason="there is no command `ray`: pip install 'ray[default]==2.60.0' somewhere and put it on the PATH"),
]  # fmt: skip


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Ray of two CPUs; its dashboard's address."""
    port, log = free_port(), tmp_path_factory.mktemp("ray") / "ray.log"
    words = [
        "ray", "start", "--head", "--block", "--num-cpus=2", f"--port={free_port()}", "--node-ip-address=127.0.0.1", "--dashboard-host=127.0.0.1",
        f"--dashboard-port={port}", "--object-store-memory=100000000", "--disable-usage-stats",
    ]  # fmt: skip
    with log.open("wb") as out:
        environment = {**os.environ, "RAY_JOB_START_TIMEOUT_SECONDS": "20"}
        process = subprocess.Popen(words, stdout=out, stderr=out, start_new_session=True, env=environment)
    address = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        assert process.poll() is None, log.read_text()
        with suppress(OSError), urllib.request.urlopen(f"{address}/api/version", timeout=5) as answer:
            return bool(answer.status == 200)
        return False

    try:
        until(answers, f"Ray's dashboard: {log}", 120)
        yield address
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(30)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def has_ended(run: RunStore) -> bool:
    return run.exit_json.exists()


def detail(run: RunStore) -> str:
    found = run.state().detail
    return found.text("en") if found else ""


def test_a_real_ray_trains_a_run_that_is_stopped_and_resumed(
    head: str, config: Make, workspace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--on", "ray", "--address", head, "--cluster", "num_gpus=0"]
    run = whole_run(config(max_steps=2000, save_steps=1000), words, tmp_path, capsys)
    assert "submitted to Ray as job" in log_tail(run, 400_000)


def test_a_job_that_asks_for_more_than_there_is_says_so_and_is_cancelled(head: str, make: MakeRun) -> None:
    run = make("ray", address=head, num_gpus=64)
    start_supervisor(run)
    until(lambda: "PENDING" in detail(run), "it says that it waits", 120)
    assert "it is waiting for a machine with enough free CPUs, GPUs and memory" in detail(run)
    request_stop(run)
    until(lambda: "Ray cannot cancel a job that has not started" in detail(run), "it says that it goes on", 120)
    assert not has_ended(run)
    until(lambda: has_ended(run), "it is cancelled", 120)
    assert (run.state().state, run.state().cause) == ("stopped", "cancelled")


def test_a_trainer_that_hears_no_stop_is_gone_when_its_end_is_told(head: str, make: MakeRun) -> None:
    deaf = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    run = make("ray", deaf + DEAF + NEVER, address=head, num_gpus=0)
    start_supervisor(run)
    until(lambda: run.state().state == "running", "it runs", 120)
    trainer = run.read_status().attempt.trainer
    assert trainer is not None
    request_stop(run, deadline_s=1)
    until(lambda: has_ended(run), "it is cancelled", 120)
    assert (run.state().state, run.state().cause) == ("stopped", "stop_deadline")
    assert not Path(f"/proc/{trainer.pid}").exists()


def test_a_job_that_fails_before_its_log_is_open_shows_why(head: str, make: MakeRun) -> None:
    run = make("ray", "print('no such library', file=sys.stderr, flush=True); os._exit(3)", address=head, num_gpus=0)
    start_supervisor(run)
    until(lambda: has_ended(run), "it ends", 120)
    assert (run.state().state, run.state().cause) == ("failed", "job_failed")
    assert "no such library" in log_tail(run)


def test_a_supervisor_that_died_is_followed_by_one_that_goes_on(head: str, make: MakeRun) -> None:
    run = make("ray", address=head, num_gpus=0)
    start_supervisor(run)
    until(lambda: run.state().state == "running", "it runs", 120)
    kill(run, "supervisor")
    recover(run)
    let_end(run)
    until(lambda: recover(run).has_ended, "it ends", 120)
    assert run.state().state == "finished"


def test_a_real_ray_is_asked_for_its_version_and_knows_no_other_job(head: str) -> None:
    cluster = cluster_of(request_for("ray", {"num_gpus": 0}, {}, head), {})
    cluster.check()
    assert cluster.look("flightdeck-nobody-1") is None
    assert cluster.find("flightdeck-nobody-1") is None
    with pytest.raises(ClusterError, match="Check the address"):
        cluster_of(request_for("ray", {}, {}, "http://127.0.0.1:9"), {}).check()
