"""A supervisor that dies, comes late or comes twice, and stops that nobody hears: the run goes on or ends, and once."""

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
from typing import Any

import psutil
import pytest

from lora_backend.installation import child_environment, this_installation
from lora_backend.runs.processes import run_end
from lora_backend.runs.processes.recovery import recover, recover_all
from lora_backend.runs.processes.supervisor import start_supervisor, supervise
from lora_backend.runs.record import transitions
from lora_backend.runs.record.documents import Exit
from lora_backend.runs.record.process_identity import identify, is_alive
from lora_backend.runs.record.run_store import RunStore
from lora_backend.runs.record.transitions import request_stop
from tests.run_files import attempt_of, end_run, log_tail, set_status, start_again, status_of
from tests.runs.stand_in import DEAF, NEVER, TRAIN, Make, kill, let_end, running, who
from tests.waiting import until


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
    run = make("set_status(RUN, outcome='finished')")
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
    end_run(run, "lost")
    start_again(run, "starting")
    supervise(run, this_installation(), adopt=True, num_ends=0)
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
        start_again(run, "starting")
        return False

    def start(*args: Any, **more: Any) -> int:
        pid = start_supervisor(*args, **more)
        started.append(identify(pid))
        return pid

    monkeypatch.setattr("lora_backend.runs.processes.recovery.is_locked", while_another_resumes_it)
    monkeypatch.setattr("lora_backend.runs.processes.recovery.start_supervisor", start)
    recover(run)
    until(lambda: not is_alive(started[0]), "the successor has looked")
    assert not run.exit_json.exists(), "the resumed one has not run yet"
    assert "supervisor" not in status_of(run), "it is not the resumed one's"


def test_the_end_of_one_start_is_not_written_to_the_next(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """The end had to wait for room, a full disk was read off the folder, and the run was resumed."""
    run, end, sleep = make("sys.exit(3)"), transitions.end, time.sleep
    tries: list[str] = []

    def without_room(run: RunStore, how: Exit, *, num_ends: int | None = None) -> None:
        tries.append(how.state)
        if len(tries) == 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        end(run, how, num_ends=num_ends)

    def while_another_resumes_it(seconds: float) -> None:
        if seconds == 1 and len(tries) == 1:
            with monkeypatch.context() as patch:
                patch.setattr(RunStore, "has_no_room", lambda self: True)
                assert run.state().cause == "disk_full"
                start_again(run, "starting")
        sleep(min(seconds, 0.05))

    monkeypatch.setattr(run_end, "end", without_room)
    monkeypatch.setattr(time, "sleep", while_another_resumes_it)
    supervise(run, this_installation())
    assert (len(tries), attempt_of(run)["number"]) == (2, 2)
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
    set_status(
        run,
        state="running",
        trainer=mine.to_json() | {"boot_id": "another"},
        supervisor=mine.to_json() | {"boot_id": "another"},
    )
    before = run.status_json.read_bytes()
    state = recover(run)
    assert (state.state, state.cause) == ("lost", "reboot")
    assert state.message is not None
    assert "was restarted" in state.message.text("en")
    assert run.status_json.read_bytes() == before, "it may be another machine's, and going on"
    assert not run.exit_json.exists()


def test_a_reused_pid_is_not_the_trainer(make: Make) -> None:
    run = make()
    mine = identify(os.getpid())
    assert mine
    set_status(run, state="running", trainer=mine.to_json() | {"start_ticks": mine.start_ticks - 1})
    assert run.state().state == "lost"


def test_a_supervisor_is_light(make: Make) -> None:
    run = make()
    pid = start_supervisor(run)
    until(lambda: run.state().state == "running", "it runs")
    # A tenth of what torch alone takes. Here it was 39.6 MB; kernels count pages of files in their own way.
    assert psutil.Process(pid).memory_info().rss <= 50 * 10**6
    let_end(run)
    until(run.exit_json.exists, "the end")


def test_a_trainer_that_does_not_hear_the_stop_is_ended_after_its_deadline(make: Make) -> None:
    run = make(DEAF + NEVER)
    start_supervisor(run)
    until(lambda: run.state().state == "running", "it runs")
    request_stop(run, "anna", deadline_s=0.5)
    assert run.state().state == "stopping"
    until(run.exit_json.exists, "the supervisor ends it")
    ended = json.loads(run.exit_json.read_text())
    assert (ended["state"], ended["cause"], ended["returncode"]) == ("stopped", "stop_deadline", -signal.SIGTERM)
    assert "SIGTERM" in log_tail(run)


def test_one_that_ignores_sigterm_too_is_killed_and_both_are_said(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make("import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + DEAF + NEVER)
    monkeypatch.setattr("lora_backend.runs.processes.supervisor.KILL_AFTER_S", 0.5)
    watcher = threading.Thread(target=supervise, args=(run, this_installation()))
    watcher.start()
    until(lambda: run.state().state == "running", "it runs")
    request_stop(run, deadline_s=0)
    watcher.join(30)
    assert (run.state().state, run.state().cause) == ("stopped", "stop_deadline")
    message = run.state().message
    assert message is not None
    assert "SIGKILL" in message.text("en")
    assert "SIGTERM" in log_tail(run)
    assert "SIGKILL" in log_tail(run)


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
