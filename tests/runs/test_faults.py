"""What befalls a run from outside, each fault for itself: the state says what is true, and it can go on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from lora_backend.atomic import write_json
from lora_backend.errors import RunError
from lora_backend.installation import child_environment, this_installation
from lora_backend.runs.processes.leases import lock_once
from lora_backend.runs.processes.recovery import recover
from lora_backend.runs.processes.supervisor import start_supervisor, supervise
from lora_backend.runs.record.failures import CAUSES, failure
from lora_backend.runs.record.process_identity import is_alive
from lora_backend.runs.record.run_store import open_run
from lora_backend.runs.record.states import NO_HEARTBEAT_S, STATES, StateError
from lora_backend.runs.record.transitions import request_save, request_stop
from tests.run_files import attempt_of, end_run, points_of, set_status, start_again, status_of
from tests.runs.stand_in import TRAIN, Make, let_end, running, under, who
from tests.waiting import until


@pytest.mark.parametrize(
    ("script", "cause"),
    [
        ("import resource; resource.setrlimit(resource.RLIMIT_AS, (2**30, 2**30)); bytearray(2**32)", "host_out_of_memory"),
        ("sys.exit('torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.')", "gpu_out_of_memory"),
        ("sys.exit('RuntimeError: [enforce fail] DefaultCPUAllocator: can\\'t allocate memory')", "host_out_of_memory"),
        ("import errno; raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))", "disk_full"),
        ("sys.exit('something else')", "crashed"),
        ("os.kill(os.getpid(), 11)", "fault"),
        ("os.kill(os.getpid(), 15)", "killed"),
        ("set_status(RUN, failure={'cause': 'data', 'message': {'template': 'x', 'values': {}}}); sys.exit(1)", "data"),
    ],
)  # fmt: skip
def test_each_failure_is_told_apart_and_says_what_to_do(script: str, cause: str, make: Make) -> None:
    run = make(
        f"import resource; resource.setrlimit(resource.RLIMIT_CORE, (0, 0))\nprint('last words', flush=True)\n{script}"
    )
    start_supervisor(run)
    until(run.exit_json.exists, "it ends")
    state = run.state()
    assert (state.state, state.cause) == ("failed", cause)
    assert state.message is not None
    assert state.remedy is not None or cause == "crashed"
    assert "last words" in json.loads(run.exit_json.read_text())["log"][0]


def test_the_kernels_kill_for_memory_is_told_from_any_other(make: Make) -> None:
    ends = {}
    for name, counts in (("kernel", iter([3] + [4] * 1000)), ("somebody", iter([3] * 1000))):
        run = make("time.sleep(0.3); os.kill(os.getpid(), 9)")
        supervise(run, this_installation(), count_oom_kills=lambda c=counts: next(c))  # type: ignore[misc]
        ends[name] = run.state().cause
    assert ends == {"kernel": "oom_killer", "somebody": "killed"}


@pytest.mark.parametrize("cause", CAUSES)
def test_every_cause_has_a_sentence(cause: str) -> None:
    values = {
        "signal": "SIGKILL", "code": 1, "deadline_s": 120, "reason": "x.", "rank": 1, "number": 2, "place": "gpu-two",
        "cluster": "Slurm", "id": "4711", "host": "node7", "folder": "/runs/a", "said": "x.",
    }  # fmt: skip
    assert failure(cause, **values).message.text("en").endswith(".")


def test_a_trainer_that_writes_nothing_is_silent_and_goes_on(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    run = running(make)
    assert run.state().silent_s is None
    later = time.clock_gettime(time.CLOCK_BOOTTIME) + NO_HEARTBEAT_S + 5
    monkeypatch.setattr("lora_backend.runs.record.states.boot_clock_s", lambda: later)
    state = run.state()
    assert state.state == "running"
    assert state.silent_s is not None
    assert state.silent_s >= NO_HEARTBEAT_S
    let_end(run)
    until(run.exit_json.exists, "the end")


@pytest.mark.parametrize("shift_s", [-86400 * 400, 86400 * 400])
def test_a_clock_that_is_set_changes_no_state(shift_s: int, make: Make, faults: Path) -> None:
    """Another process, whose clock is a year off, looks at a run that goes on, at one that starts, at a dead one."""
    going, starting, dead = make(), make(), make()
    start_supervisor(going)
    until(lambda: going.state().state == "running", "it runs")
    set_status(dead, state="running", trainer=who(going, "trainer").to_json() | {"start_ticks": 1})
    look = (
        "import sys; from pathlib import Path; from lora_backend.runs.record.run_store import RunStore\n"
        "print(*(RunStore(Path(p)).state().state for p in sys.argv[1:]))"
    )
    command = [sys.executable, "-c", look, *(str(run.path) for run in (going, starting, dead))]
    environment = child_environment(LD_PRELOAD=str(faults), FAULT_CLOCK_S=str(shift_s))
    said = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.split()
    assert said == ["running", "starting", "lost"]
    let_end(going)
    until(going.exit_json.exists, "the end")


WRITES = """
set_status(RUN, state="running", trainer=identify(os.getpid()).to_json())
add_point(RUN, {"step": 1, "loss": 2.0})
(RUN.path / "full").touch()
add_point(RUN, {"step": 2, "loss": 1.0})
set_status(RUN, outcome="finished")
"""


def test_a_disk_without_room_for_a_metric_is_said_and_what_was_written_stays(make: Make, faults: Path) -> None:
    run = make(WRITES)
    variables = {"LD_PRELOAD": str(faults), "FAULT_PATH": "metrics.jsonl", "FAULT_WHEN": str(run.path / "full")}
    under(run, variables)
    start_supervisor(run)
    until(run.exit_json.exists, "it ends")
    assert (run.state().state, run.state().cause) == ("failed", "disk_full")
    assert [row["step"] for row in points_of(run)] == [1]


def test_a_trainer_that_found_no_room_even_for_its_last_words_ended_for_want_of_it(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, spoke = make("os._exit(1)"), make("sys.exit('MemoryError')")
    monkeypatch.setattr("lora_backend.runs.record.run_store.shutil.disk_usage", lambda _: SimpleNamespace(free=0))
    supervise(run, this_installation())
    supervise(spoke, this_installation())
    monkeypatch.undo()
    assert (run.state().state, run.state().cause) == ("failed", "disk_full")
    assert (spoke.state().state, spoke.state().cause) == ("failed", "host_out_of_memory"), "what was said stands"


def test_the_end_is_written_when_there_is_room_again(make: Make, faults: Path) -> None:
    """The supervisor's own disk is full: it waits, and the trainer's outcome is what is shown meanwhile."""
    run = make()
    full = run.path / "full"
    script = "import sys; from pathlib import Path; from lora_backend.runs.record.run_store import RunStore; from lora_backend.installation import this_installation; from lora_backend.runs.processes.supervisor import supervise; supervise(RunStore(Path(sys.argv[1])), this_installation())"
    environment = child_environment(LD_PRELOAD=str(faults), FAULT_PATH=".exit.json", FAULT_WHEN=str(full))
    under(run, {"LD_PRELOAD": ""})
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(run.path)], env=environment, stderr=subprocess.PIPE, text=True
    )
    try:
        until(lambda: run.state().state == "running", "it runs")
        full.touch()
        trainer = who(run, "trainer")
        let_end(run)
        until(lambda: not is_alive(trainer), "the trainer ends")
        assert process.stderr is not None
        assert "cannot be written yet" in process.stderr.readline() + process.stderr.readline()
        assert not run.exit_json.exists()
        full.unlink()
        until(run.exit_json.exists, "it is written")
        assert run.state().state == "finished"
    finally:
        process.kill()
        process.wait()
        if process.stderr:
            process.stderr.close()


def test_a_folder_that_cannot_be_written_is_shown_and_a_stop_says_why(make: Make) -> None:
    """As an unprivileged process: root ignores modes."""
    run = make()
    set_status(run, state="running", trainer={"pid": 1, "start_ticks": 1, "boot_id": "x"})
    run.path.chmod(0o555)
    look = (
        "import os, sys; from pathlib import Path; from lora_backend.runs.record.run_store import RunStore; from lora_backend.errors import RunError\n"
        "from lora_backend.runs.processes.recovery import recover\n"
        "from lora_backend.runs.record.transitions import request_stop\n"
        "os.getuid() or os.setuid(65534)\n"
        "run = RunStore(Path(sys.argv[1])); print(recover(run).state)\n"
        "try: request_stop(run)\nexcept RunError as error: print(error)"
    )
    for parent in run.path.parents:
        if parent.is_relative_to("/tmp") and parent != Path("/tmp"):
            parent.chmod(0o755)
    try:
        command = [sys.executable, "-c", look, str(run.path)]
        said = subprocess.run(command, env=child_environment(), capture_output=True, text=True, check=True).stdout
    finally:
        run.path.chmod(0o755)
    assert said.splitlines()[0] == "lost"
    assert f"The permissions of {run.path}" in said


@pytest.mark.parametrize("file", ["status.json", "exit.json", "stop.request", "attempts/1.json"])
@pytest.mark.parametrize("content", ["", "{", "[1]", '{"state": {}}', "[" * 10000, '{"trainer": 3, "supervisor": []}'])
def test_half_a_file_is_no_error_and_no_end(file: str, content: str, make: Make) -> None:
    run = make()
    (run.path / file).write_text(content)
    assert recover(run).state in STATES
    assert run.state().state != "finished"


def test_a_run_of_a_newer_version_is_shown_and_not_written_to(make: Make) -> None:
    run = make()
    for path in (run.run_json, run.status_json):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 99}))
    before = run.status_json.read_bytes()
    with pytest.raises(RunError, match="newer version"):
        open_run(run.path.parent, run.id)
    for action in (lambda: request_stop(run), lambda: request_save(run), lambda: set_status(run, step=1)):
        with pytest.raises(RunError, match="newer version"):
            action()
    assert recover(run).state in STATES
    assert run.status_json.read_bytes() == before


def test_another_attempt_keeps_the_end_of_the_one_before_and_takes_requests_back(make: Make) -> None:
    run = make()
    request_stop(run)
    set_status(run, outcome="stopped", stage="training", step=7)
    end_run(run, "stopped")
    assert start_again(run, "starting", resume_from="checkpoint-7") == 2
    assert json.loads((run.attempts / "1.exit.json").read_text())["state"] == "stopped"
    assert not run.stop_request.exists()
    assert not run.exit_json.exists()
    assert (run.state().state, run.state().step, run.state().stage) == ("starting", 7, None)
    assert attempt_of(run)["resume_from"] == "checkpoint-7"
    with pytest.raises(StateError, match="not ended"):
        start_again(run, "starting")


def test_a_stop_is_never_left_to_the_start_after_the_one_that_it_was_meant_for(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make()

    def end_and_resume() -> None:
        end_run(run, "failed", cause="code")
        start_again(run, "starting")

    other = threading.Thread(target=end_and_resume)

    def write(path: Path, value: dict[str, object]) -> None:
        if path == run.stop_request:
            other.start()
            other.join(timeout=0.3)  # it has its turn only when the stop is written
        write_json(path, value)

    monkeypatch.setattr("lora_backend.runs.record.transitions.write_json", write)
    request_stop(run, "anna")
    other.join()
    assert (attempt_of(run)["number"], run.stop_request.exists()) == (2, False)


def test_save_is_asked_for_only_where_somebody_trains(make: Make) -> None:
    run = make(TRAIN)
    start_supervisor(run)
    until(lambda: run.state().state == "running", "it runs")
    request_save(run, "anna")
    assert json.loads(run.save_request.read_text())["actor"] == "anna"
    let_end(run)
    until(run.exit_json.exists, "the end")
    with pytest.raises(StateError, match="nothing to save"):
        request_save(run)


def test_the_next_attempts_supervisor_waits_for_the_last_ones_to_leave(make: Make) -> None:
    run = make()
    leaving = lock_once(run.path / "supervisor.lock")
    assert leaving is not None
    start_supervisor(run)
    assert run.state().state == "starting"
    os.close(leaving)
    until(lambda: run.state().state == "running", "it takes over")
    let_end(run)
    until(run.exit_json.exists, "the end")


def test_another_attempt_adopts_nothing_of_the_one_before(make: Make) -> None:
    run = running(make)
    let_end(run)
    until(run.exit_json.exists, "the end")
    (run.path / "go").unlink()
    start_again(run, "starting")
    assert {"child", "trainer", "supervisor", "outcome"}.isdisjoint(status_of(run))
    start_supervisor(run)
    until(lambda: run.state().state == "running", "a trainer of its own runs")
    let_end(run)
    until(run.exit_json.exists, "the end")
