"""A supervisor and its trainer as real processes: who dies, who goes on, and what the folder says of it."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from lora_backend.installation import this_installation
from lora_backend.runs.processes.supervisor import start_supervisor, supervise
from lora_backend.runs.record.process_identity import ProcessIdentity, identify, is_alive
from lora_backend.runs.record.run_store import RunStore
from lora_backend.runs.record.states import ENDED
from lora_backend.runs.record.transitions import request_stop
from tests.run_files import end_run, log_tail, make_run, status_of
from tests.waiting import until

HEAD = """
import os, sys, time
from pathlib import Path
from lora_backend.runs.record.run_store import RunStore
from lora_backend.runs.record.process_identity import identify
from tests.run_files import set_status
RUN = RunStore(Path(sys.argv[1]))
"""
WAIT_FOR_STOP = """
set_status(RUN, state="running", trainer=identify(os.getpid()).to_json())
print("started", flush=True)
while not RUN.stop_request.exists():
    time.sleep(0.02)
set_status(RUN, outcome="stopped")
"""


def who(run: RunStore, role: str) -> ProcessIdentity:
    return ProcessIdentity.from_json(status_of(run)[role])


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[[str], RunStore]]:
    runs: list[RunStore] = []

    def make(script: str) -> RunStore:
        path = tmp_path / f"run{len(runs)}"
        argv = [sys.executable, "-c", HEAD + script, str(path)]
        runs.append(make_run(tmp_path, config={}, config_text="", argv=argv, path=path))
        return runs[-1]

    yield make
    for run in runs:
        for role in ("trainer", "supervisor"):
            if status_of(run).get(role) and is_alive(identity := who(run, role)) and identity.pid != os.getpid():
                os.kill(identity.pid, signal.SIGKILL)


def test_a_run_goes_from_starting_over_running_and_stopping_to_stopped(make: Callable[[str], RunStore]) -> None:
    run = make(WAIT_FOR_STOP)
    assert run.state().state == "starting"
    start_supervisor(run)
    until(lambda: run.state().state == "running", "the trainer starts")
    request_stop(run, "someone")
    assert run.state().state in ("stopping", "stopped")
    until(lambda: run.exit_json.exists(), "the supervisor writes the end")
    assert run.state().state == "stopped"
    assert log_tail(run) == "started\n"


def test_supervisor_and_trainer_have_sessions_of_their_own(make: Callable[[str], RunStore]) -> None:
    run = make(WAIT_FOR_STOP)
    supervisor = start_supervisor(run)
    until(lambda: run.state().state == "running", "the trainer starts")
    trainer = who(run, "trainer").pid
    assert len({os.getsid(0), os.getsid(supervisor), os.getsid(trainer)}) == 3
    assert psutil.Process(trainer).ppid() == supervisor
    request_stop(run)
    until(lambda: run.exit_json.exists(), "the end")


def test_a_trainer_outlives_its_supervisor_and_is_lost_when_it_dies_too(make: Callable[[str], RunStore]) -> None:
    run = make(WAIT_FOR_STOP)
    start_supervisor(run)
    until(lambda: run.state().state == "running", "the trainer starts")
    supervisor, trainer = who(run, "supervisor"), who(run, "trainer")
    os.kill(supervisor.pid, signal.SIGKILL)
    until(lambda: not is_alive(supervisor), "the supervisor dies")
    assert run.state().state == "running"
    os.kill(trainer.pid, signal.SIGKILL)
    until(lambda: not is_alive(trainer), "the trainer dies")
    assert run.state().state == "lost"
    assert run.state().has_ended


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGRTMIN, signal.SIGRTMIN + 6])
def test_a_signal_that_ended_the_trainer_is_named_whichever_it_was(
    number: int, make: Callable[[str], RunStore]
) -> None:
    run = make(
        f"import resource; resource.setrlimit(resource.RLIMIT_CORE, (0, 0)); os.kill(os.getpid(), {int(number)}); time.sleep(60)"
    )
    supervise(run, this_installation())
    ended = run.state()
    crash = number == signal.SIGSEGV
    assert (ended.state, ended.cause) == ("failed", "fault" if crash else "killed"), "nobody else sends SIGSEGV"
    assert ended.message is not None
    known = {item.value: item.name for item in signal.Signals}
    assert known.get(number, str(int(number))) in ended.message.text("en")


@pytest.mark.parametrize("code", [0, 1, 127])
def test_an_exit_without_a_word_is_a_failure_with_its_code(code: int, make: Callable[[str], RunStore]) -> None:
    run = make(f"os._exit({code})")
    supervise(run, this_installation())
    ended = run.state()
    assert (ended.state, ended.cause) == ("failed", "crashed")
    assert ended.message is not None
    assert f"code {code}" in ended.message.text("en")
    assert ended.ended_at is not None


def test_what_the_trainer_said_of_its_failure_stands(make: Callable[[str], RunStore]) -> None:
    run = make(
        "set_status(RUN, failure={'cause': 'data', 'message': {'template': 'Line {line} is bad.', 'values': {'line': 3}}}); sys.exit(1)"
    )
    supervise(run, this_installation())
    assert (run.state().state, run.state().cause) == ("failed", "data")
    assert str(run.state().message) == "Line 3 is bad."


def test_the_trainer_finds_the_package_from_any_folder_and_knows_that_it_is_supervised(
    make: Callable[[str], RunStore], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = make("print(os.environ['FLIGHTDECK_SUPERVISED']); set_status(RUN, outcome='finished')")
    supervise(run, this_installation())
    assert (run.state().state, log_tail(run)) == ("finished", "1\n")


def test_the_log_keeps_what_came_before(make: Callable[[str], RunStore]) -> None:
    run = make("print('second'); print('third', file=sys.stderr); set_status(RUN, outcome='finished')")
    run.train_log.write_text("first\n")
    supervise(run, this_installation())
    assert sorted(log_tail(run).split()) == ["first", "second", "third"]


def test_a_process_is_known_whatever_it_is_called(tmp_path: Path) -> None:
    """`/proc/<pid>/stat` holds the name unescaped, spaces and parentheses and all."""
    import subprocess

    program = tmp_path / "x) R 1 (y"
    program.symlink_to("/bin/sleep")
    process = subprocess.Popen([str(program), "60"])
    try:
        identity = identify(process.pid)
        assert identity is not None
        assert is_alive(identity)
        assert identity.start_ticks > 1
    finally:
        process.kill()
        process.wait()
    assert not is_alive(identity)
    assert identify(process.pid) is None


def test_all_ends_are_ends_and_nothing_else(make: Callable[[str], RunStore]) -> None:
    for state in ("finished", "failed", "stopped"):
        run = make("")
        end_run(run, state)
        assert run.state().has_ended
    assert {"queued", "starting", "running", "stopping"}.isdisjoint(ENDED)
