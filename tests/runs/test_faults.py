"""What befalls a run from outside, each fault for itself: the state says what is true, and it can go on."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from lora_backend.atomic import write_json
from lora_backend.errors import RunError
from lora_backend.runs.failures import CAUSES, failure
from lora_backend.runs.folder import RunFolder, open_run
from lora_backend.runs.leases import lock_once
from lora_backend.runs.process import identify, is_alive
from lora_backend.runs.recovery import recover, recover_all
from lora_backend.runs.states import MOVES, NO_HEARTBEAT_S, STATES, StateError, check_move
from lora_backend.runs.supervisor import start_supervisor, supervise
from lora_backend.settings import child_environment
from tests.runs.stand_in import TRAIN, Make, kill, let_end, until, who

DEAF = 'RUN.write_status(state="running", trainer=identify(os.getpid()).to_json())\n'
NEVER = "while True: time.sleep(0.05)\n"


def running(make: Make) -> RunFolder:
    """A run under its supervisor, whose trainer trains."""
    run = make()
    start_supervisor(run)
    until(lambda: run.state().state == "running", "it runs")
    return run


# ------------------------------------------------------------------------------------------ the table


def test_no_state_is_written_that_the_table_does_not_lead_to(make: Make) -> None:
    run = make(state="queued")
    with pytest.raises(StateError, match="queued cannot become running"):
        run.write_status(state="running")
    with pytest.raises(StateError):
        run.write_exit("finished")
    with pytest.raises(StateError):
        check_move("running", "paused")
    run.move("queued", "starting")
    run.write_status(state="running")
    with pytest.raises(StateError):
        run.write_status(state="queued")
    run.write_exit("finished")
    with pytest.raises(StateError, match="finished cannot become running"):
        run.write_status(state="running")
    assert run.status()["state"] == "running", "what is refused changes nothing"


def test_every_state_is_in_the_table_and_every_end_can_be_left_by_another_attempt_alone() -> None:
    assert {state for followers in MOVES.values() for state in followers} == STATES
    for state in ("stopped", "finished", "failed", "lost"):
        assert MOVES[state] == {"queued", "starting"}


def test_of_two_who_take_a_run_from_the_queue_one_does(make: Make) -> None:
    run, taken, gate = make(state="queued"), [], threading.Barrier(8)

    def take() -> None:
        gate.wait()
        try:
            run.move("queued", "starting")
            taken.append(1)
        except StateError:
            pass

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert taken == [1]


def test_launcher_supervisor_and_trainer_write_one_status_without_losing_each_others_keys(make: Make) -> None:
    run = make()

    def write(key: str) -> None:
        for number in range(30):
            run.write_status(**{key: number})

    threads = [threading.Thread(target=write, args=(key,)) for key in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {key: run.status()[key] for key in "abcd"} == dict.fromkeys("abcd", 29)


# ---------------------------------------------------------------------------------------- supervisors


def test_a_successor_adopts_the_trainer_and_writes_how_it_ended(make: Make) -> None:
    run = running(make)
    for _ in range(3):
        dead = kill(run, "supervisor")
        assert recover(run).state == "running"
        until(lambda dead=dead: who(run, "supervisor") != dead, "a successor comes")  # type: ignore[misc]
    let_end(run)
    until(run.exit_json.exists, "it writes the end")
    assert run.state().state == "finished"


def test_a_trainer_that_ended_while_nobody_watched_is_what_it_said_of_itself(make: Make) -> None:
    run = running(make)
    trainer = who(run, "trainer")
    kill(run, "supervisor")
    let_end(run)
    until(lambda: not is_alive(trainer), "the trainer ends")
    assert run.state().state == "finished", "before anybody has written it down"
    recover_all(run.path.parent)
    until(run.exit_json.exists, "whoever lists the runs has it written down")
    assert run.state().state == "finished"


def test_both_killed_is_a_failure_that_says_that_nobody_saw_it(make: Make) -> None:
    run = running(make)
    kill(run, "supervisor")
    kill(run, "trainer")
    assert run.state().state == "lost"
    recover(run)
    until(run.exit_json.exists, "a successor writes the end")
    assert (run.state().state, run.state().cause) == ("failed", "ended_unseen")


def test_whoever_looks_takes_dead_supervisors_away(make: Make) -> None:
    """A dashboard that starts runs for weeks would else gather a zombie for each."""
    run = make("RUN.write_status(outcome='finished')")
    pid = start_supervisor(run)
    until(lambda: recover(run).has_ended and not psutil.pid_exists(pid), "it ends, and nothing is left of it")


def test_what_a_dead_trainer_left_is_ended_and_not_waited_for(make: Make) -> None:
    """Both are killed; a process that the trainer started, in a session of its own, lives on."""
    run = make(
        "import subprocess\n"
        "p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'], start_new_session=True)\n"
        "(RUN.path / 'left').write_text(str(p.pid))\n" + TRAIN
    )
    start_supervisor(run)
    until(lambda: run.state().state == "running", "it runs")
    left = identify(int((run.path / "left").read_text()))
    assert left is not None
    kill(run, "supervisor")
    kill(run, "trainer")
    recover(run)
    until(run.exit_json.exists, "a successor writes the end")
    assert (run.state().state, run.state().cause) == ("failed", "ended_unseen")
    until(lambda: not is_alive(left), "what was left is ended")


def test_what_an_attempt_left_is_not_taken_for_the_next_ones_trainer(make: Make) -> None:
    """Nobody ended it: the machine's memory was full, say, and no successor could be started."""
    run = make()
    command = [sys.executable, "-c", "import time; time.sleep(600)"]
    left = subprocess.Popen(command, env=child_environment(FLIGHTDECK_RUN=str(run.path)))
    try:
        start_supervisor(run)
        until(lambda: run.state().state == "running", "a trainer of its own runs")
        until(lambda: left.poll() is not None, "what was left is ended")
        let_end(run)
        until(run.exit_json.exists, "the end")
    finally:
        left.kill()
        left.wait()


def test_a_successor_that_comes_too_late_ends_no_attempt_but_its_own(make: Make) -> None:
    """Both were killed; whoever looked started a successor, and the run was resumed before that came to look."""
    run = running(make)
    kill(run, "supervisor")
    kill(run, "trainer")
    assert run.state().state == "lost"
    run.write_exit("lost")
    run.begin_attempt("starting")
    supervise(run, adopt=True, num_ends=0)
    assert not run.exit_json.exists(), "the attempt before was its own"
    start_supervisor(run)
    until(lambda: run.state().state == "running", "the resumed one runs")
    let_end(run)
    until(run.exit_json.exists, "the end")
    assert run.state().state == "finished"


def test_a_successor_sees_to_the_start_that_was_judged(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    run = running(make)
    started: list[Any] = []
    kill(run, "supervisor")
    kill(run, "trainer")

    def while_another_resumes_it(path: Path) -> bool:
        run.begin_attempt("starting")
        return False

    def start(*args: Any, **more: Any) -> int:
        pid = start_supervisor(*args, **more)
        started.append(identify(pid))
        return pid

    monkeypatch.setattr("lora_backend.runs.recovery.is_locked", while_another_resumes_it)
    monkeypatch.setattr("lora_backend.runs.recovery.start_supervisor", start)
    recover(run)
    until(lambda: not is_alive(started[0]), "the successor has looked")
    assert not run.exit_json.exists(), "the resumed one has not run yet"
    assert "supervisor" not in run.status(), "it is not the resumed one's"


def test_the_end_of_one_start_is_not_written_to_the_next(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """The end had to wait for room, a full disk was read off the folder, and the run was resumed."""
    run, write_exit, sleep = make("sys.exit(3)"), RunFolder._write_exit, time.sleep
    tries: list[str] = []

    def without_room(self: RunFolder, state: str, **more: Any) -> None:
        tries.append(state)
        if len(tries) == 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        write_exit(self, state, **more)

    def while_another_resumes_it(seconds: float) -> None:
        if seconds == 1 and len(tries) == 1:
            with monkeypatch.context() as patch:
                patch.setattr(RunFolder, "_is_full", lambda self: True)
                assert run.state().cause == "disk_full"
                run.begin_attempt("starting")
        sleep(min(seconds, 0.05))

    monkeypatch.setattr(RunFolder, "_write_exit", without_room)
    monkeypatch.setattr(time, "sleep", while_another_resumes_it)
    supervise(run)
    assert (len(tries), run.attempt()["number"]) == (2, 2)
    assert not run.exit_json.exists()


def test_a_supervisor_that_watches_stays_named_beside_one_that_comes_for_nothing(make: Make) -> None:
    run = running(make)
    named = who(run, "supervisor")
    start_supervisor(run, adopt=True)
    assert who(run, "supervisor") == named
    let_end(run)
    until(run.exit_json.exists, "the end")


def test_lookers_at_once_start_one_successor(make: Make) -> None:
    run = running(make)
    kill(run, "supervisor")
    pids = [start_supervisor(run, adopt=True) for _ in range(4)]
    lock = run.path / "supervisor.lock"

    def alive() -> list[int]:
        return [pid for pid in pids if psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie"]

    until(lambda: len(alive()) == 1, "the others leave")
    assert lock.exists()
    let_end(run)
    until(run.exit_json.exists, "the end")


def test_a_run_of_another_boot_is_lost_and_not_touched(make: Make) -> None:
    run = make()
    mine = identify(os.getpid())
    assert mine
    run.write_status(state="running", trainer=mine.to_json() | {"boot_id": "another"}, supervisor=mine.to_json() | {"boot_id": "another"})  # fmt: skip
    before = run.status_json.read_bytes()
    state = recover(run)
    assert (state.state, state.cause) == ("lost", "reboot")
    assert state.message is not None
    assert "started anew" in state.message.text("en")
    assert run.status_json.read_bytes() == before, "it may be another machine's, and going on"
    assert not run.exit_json.exists()


def test_a_reused_pid_is_not_the_trainer(make: Make) -> None:
    run = make()
    mine = identify(os.getpid())
    assert mine
    run.write_status(state="running", trainer=mine.to_json() | {"start_ticks": mine.start_ticks - 1})
    assert run.state().state == "lost"


def test_a_supervisor_is_light(make: Make) -> None:
    run = make()
    pid = start_supervisor(run)
    until(lambda: run.state().state == "running", "it runs")
    assert psutil.Process(pid).memory_info().rss <= 40 * 10**6
    let_end(run)
    until(run.exit_json.exists, "the end")


# ---------------------------------------------------------------------------------------------- stops


def test_a_trainer_that_does_not_hear_the_stop_is_ended_after_its_deadline(make: Make) -> None:
    run = make(DEAF + NEVER)
    start_supervisor(run)
    until(lambda: run.state().state == "running", "it runs")
    run.request_stop("anna", deadline_s=0.5)
    assert run.state().state == "stopping"
    until(run.exit_json.exists, "the supervisor ends it")
    ended = json.loads(run.exit_json.read_text())
    assert (ended["state"], ended["cause"], ended["returncode"]) == ("stopped", "stop_deadline", -signal.SIGTERM)
    assert "SIGTERM" in run.log_tail()


def test_one_that_ignores_sigterm_too_is_killed_and_both_are_said(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make("import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + DEAF + NEVER)
    monkeypatch.setattr("lora_backend.runs.supervisor.KILL_AFTER_S", 0.5)
    watcher = threading.Thread(target=supervise, args=(run,))
    watcher.start()
    until(lambda: run.state().state == "running", "it runs")
    run.request_stop(deadline_s=0)
    watcher.join(30)
    assert (run.state().state, run.state().cause) == ("stopped", "stop_deadline")
    message = run.state().message
    assert message is not None
    assert "SIGKILL" in message.text("en")
    assert "SIGTERM" in run.log_tail()
    assert "SIGKILL" in run.log_tail()


def test_nothing_that_the_trainer_started_is_left_behind(make: Make) -> None:
    run = make(
        "import subprocess\n"
        "p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'], start_new_session=True)\n"
        "(RUN.path / 'left').write_text(str(p.pid))\nos._exit(3)\n"
    )
    start_supervisor(run)
    until(run.exit_json.exists, "it ends")
    left = int((run.path / "left").read_text())
    until(lambda: not psutil.pid_exists(left) or psutil.Process(left).status() == "zombie", "its child is ended")


def test_a_run_whose_folder_was_deleted_ends(make: Make) -> None:
    run = make(DEAF + NEVER)
    pid = start_supervisor(run)
    until(lambda: run.state().state == "running", "it runs")
    trainer, supervisor = who(run, "trainer"), identify(pid)
    assert supervisor
    shutil.rmtree(run.path)
    until(lambda: not is_alive(trainer) and not is_alive(supervisor), "both end")
    assert not run.path.exists(), "nothing is made anew"


# ------------------------------------------------------------------------------------------- failures


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
        ("RUN.write_status(failure={'cause': 'data', 'message': {'template': 'x', 'values': {}}}); sys.exit(1)", "data"),
    ],
)  # fmt: skip
def test_each_failure_is_told_apart_and_says_what_to_do(script: str, cause: str, make: Make) -> None:
    run = make(f"import resource; resource.setrlimit(resource.RLIMIT_CORE, (0, 0))\nprint('last words', flush=True)\n{script}")  # fmt: skip
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
        supervise(run, count_oom_kills=lambda c=counts: next(c))  # type: ignore[misc]
        ends[name] = run.state().cause
    assert ends == {"kernel": "oom_killer", "somebody": "killed"}


@pytest.mark.parametrize("cause", CAUSES)
def test_every_cause_has_a_sentence(cause: str) -> None:
    values = {"signal": "SIGKILL", "code": 1, "deadline_s": 120, "reason": "x"}
    assert failure(cause, **values).message.text("en").endswith(".")


def test_a_trainer_that_writes_nothing_is_silent_and_goes_on(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    run = running(make)
    assert run.state().silent_s is None
    later = time.clock_gettime(time.CLOCK_BOOTTIME) + NO_HEARTBEAT_S + 5
    monkeypatch.setattr("lora_backend.runs.states.boot_clock_s", lambda: later)
    state = run.state()
    assert state.state == "running"
    assert state.silent_s is not None
    assert state.silent_s >= NO_HEARTBEAT_S
    let_end(run)
    until(run.exit_json.exists, "the end")


# ------------------------------------------------------------------------------- clocks, disks, files


@pytest.mark.parametrize("shift_s", [-86400 * 400, 86400 * 400])
def test_a_clock_that_is_set_changes_no_state(shift_s: int, make: Make, faults: Path) -> None:
    """Another process, whose clock is a year off, looks at a run that goes on, at one that starts, at a dead one."""
    going, starting, dead = make(), make(), make()
    start_supervisor(going)
    until(lambda: going.state().state == "running", "it runs")
    dead.write_status(state="running", trainer=who(going, "trainer").to_json() | {"start_ticks": 1})
    look = (
        "import sys; from pathlib import Path; from lora_backend.runs.folder import RunFolder\n"
        "print(*(RunFolder(Path(p)).state().state for p in sys.argv[1:]))"
    )
    command = [sys.executable, "-c", look, *(str(run.path) for run in (going, starting, dead))]
    environment = child_environment(LD_PRELOAD=str(faults), FAULT_CLOCK_S=str(shift_s))
    said = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.split()
    assert said == ["running", "starting", "lost"]
    let_end(going)
    until(going.exit_json.exists, "the end")


WRITES = """
RUN.write_status(state="running", trainer=identify(os.getpid()).to_json())
RUN.append_metrics({"step": 1, "loss": 2.0})
(RUN.path / "full").touch()
RUN.append_metrics({"step": 2, "loss": 1.0})
RUN.write_status(outcome="finished")
"""


def test_a_disk_without_room_for_a_metric_is_said_and_what_was_written_stays(make: Make, faults: Path) -> None:
    run = make(WRITES)
    run.write_attempt(environment={"LD_PRELOAD": str(faults), "FAULT_PATH": "metrics.jsonl", "FAULT_WHEN": str(run.path / "full")})  # fmt: skip
    start_supervisor(run)
    until(run.exit_json.exists, "it ends")
    assert (run.state().state, run.state().cause) == ("failed", "disk_full")
    assert [row["step"] for row in run.metrics()] == [1]


def test_a_trainer_that_found_no_room_even_for_its_last_words_ended_for_want_of_it(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, spoke = make("os._exit(1)"), make("sys.exit('MemoryError')")
    monkeypatch.setattr("lora_backend.runs.supervisor.shutil.disk_usage", lambda _: SimpleNamespace(free=0))  # fmt: skip
    supervise(run)
    supervise(spoke)
    monkeypatch.undo()
    assert (run.state().state, run.state().cause) == ("failed", "disk_full")
    assert (spoke.state().state, spoke.state().cause) == ("failed", "host_out_of_memory"), "what was said stands"


def test_the_end_is_written_when_there_is_room_again(make: Make, faults: Path) -> None:
    """The supervisor's own disk is full: it waits, and the trainer's outcome is what is shown meanwhile."""
    run = make()
    full = run.path / "full"
    script = "import sys; from pathlib import Path; from lora_backend.runs.folder import RunFolder; from lora_backend.runs.supervisor import supervise; supervise(RunFolder(Path(sys.argv[1])))"  # fmt: skip
    environment = child_environment(LD_PRELOAD=str(faults), FAULT_PATH=".exit.json", FAULT_WHEN=str(full))
    run.write_attempt(environment={"LD_PRELOAD": ""})
    process = subprocess.Popen([sys.executable, "-c", script, str(run.path)], env=environment, stderr=subprocess.PIPE, text=True)  # fmt: skip
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
    run.write_status(state="running", trainer={"pid": 1, "start_ticks": 1, "boot_id": "x"})
    run.path.chmod(0o555)
    look = (
        "import os, sys; from pathlib import Path; from lora_backend.runs.folder import RunFolder; from lora_backend.errors import RunError\n"
        "from lora_backend.runs.recovery import recover\n"
        "os.getuid() or os.setuid(65534)\n"
        "run = RunFolder(Path(sys.argv[1])); print(recover(run).state)\n"
        "try: run.request_stop()\nexcept RunError as error: print(error)"
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
    assert "Nothing can be written into" in said
    assert "Permission denied" in said


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
        path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 2}))
    before = run.status_json.read_bytes()
    with pytest.raises(RunError, match="newer version"):
        open_run(run.path.parent, run.id)
    for action in (run.request_stop, run.request_save, lambda: run.write_status(step=1)):
        with pytest.raises(RunError, match="newer version"):
            action()
    assert recover(run).state in STATES
    assert run.status_json.read_bytes() == before


def test_another_attempt_keeps_the_end_of_the_one_before_and_takes_requests_back(make: Make) -> None:
    run = make()
    run.request_stop()
    run.write_status(outcome="stopped", stage="training", step=7)
    run.write_exit("stopped")
    assert run.begin_attempt("starting", resume_from="checkpoint-7") == 2
    assert json.loads((run.attempts / "1.exit.json").read_text())["state"] == "stopped"
    assert not run.stop_requested
    assert not run.exit_json.exists()
    assert (run.state().state, run.state().step, run.state().stage) == ("starting", 7, None)
    assert run.attempt()["resume_from"] == "checkpoint-7"
    with pytest.raises(StateError, match="not ended"):
        run.begin_attempt("starting")


def test_a_stop_is_never_left_to_the_start_after_the_one_that_it_was_meant_for(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make()

    def end_and_resume() -> None:
        run.write_exit("failed", cause="code")
        run.begin_attempt("starting")

    other = threading.Thread(target=end_and_resume)

    def write(path: Path, value: dict[str, object]) -> None:
        if path == run.stop_request:
            other.start()
            other.join(timeout=0.3)  # it has its turn only when the stop is written
        write_json(path, value)

    monkeypatch.setattr("lora_backend.runs.folder.write_json", write)
    run.request_stop("anna")
    other.join()
    assert (run.attempt()["number"], run.stop_requested) == (2, False)


def test_save_is_asked_for_only_where_somebody_trains(make: Make) -> None:
    run = make(TRAIN)
    start_supervisor(run)
    until(lambda: run.state().state == "running", "it runs")
    run.request_save("anna")
    assert json.loads(run.save_request.read_text())["actor"] == "anna"
    let_end(run)
    until(run.exit_json.exists, "the end")
    with pytest.raises(StateError, match="nothing to save"):
        run.request_save()


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
    run.begin_attempt("starting")
    assert {"child", "trainer", "supervisor", "outcome"}.isdisjoint(run.status())
    start_supervisor(run)
    until(lambda: run.state().state == "running", "a trainer of its own runs")
    let_end(run)
    until(run.exit_json.exists, "the end")
