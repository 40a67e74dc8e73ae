"""Signals to a process that trains: the first asks for a stop, another ends at once; handlers are borrowed, not taken."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from lora_backend.installation import child_environment, this_installation
from lora_backend.runs.processes.signals import SIGNALS, StopSignals
from lora_backend.runs.processes.supervisor import start_supervisor
from lora_backend.runs.record.locked_files import read_json
from lora_backend.runs.record.run_store import RunStore
from lora_backend.runs.record.transitions import request_stop
from tests.run_files import make_run, status_of
from tests.runs.stand_in import HEAD, Make, who
from tests.waiting import until

HEARS = (
    HEAD
    + """
import signal
from lora_backend.installation import this_installation
from lora_backend.runs.processes.signals import SIGNALS, StopSignals
for number in SIGNALS:
    signal.signal(number, signal.SIG_DFL)  # what runs the tests in the background may have had them ignored
with StopSignals(RUN, this_installation()):
    set_status(RUN, state="running", stage="training", trainer=identify(os.getpid()).to_json())
"""
)
OBEYS = (
    HEARS
    + """
    while not RUN.stop_request.exists():
        time.sleep(0.02)
set_status(RUN, outcome="stopped")
"""
)
DEAF = HEARS + "    while True: time.sleep(0.02)\n"
NAMES = ["SIGINT", "SIGTERM", "SIGHUP"]


@pytest.fixture
def run(tmp_path: Path) -> RunStore:
    return make_run(tmp_path / "runs", config={"model_name": "m"}, config_text="", argv=["a"])


@pytest.fixture
def deaf(run: RunStore) -> Iterator[subprocess.Popen[str]]:
    """A trainer in the foreground that never comes to the end of its step."""
    command = [sys.executable, "-c", DEAF, str(run.path)]
    process = subprocess.Popen(command, env=child_environment(), stderr=subprocess.PIPE, text=True)
    until(lambda: status_of(run).get("stage") == "training" or process.poll() is not None, "it trains")
    yield process
    process.kill()
    process.communicate()


@pytest.mark.parametrize("name", NAMES)
def test_a_second_signal_ends_at_once_and_the_run_says_so(
    name: str, run: RunStore, deaf: subprocess.Popen[str]
) -> None:
    deaf.send_signal(signal.Signals[name])
    assert deaf.stderr is not None
    said = next(line for line in deaf.stderr if line.strip())
    assert said.startswith("Stopping: saving a checkpoint after this step")
    assert (read_json(run.stop_request) or {})["signal"] == name
    assert run.state().state == "stopping"
    assert deaf.poll() is None
    deaf.send_signal(signal.Signals[name])
    deaf.wait(timeout=30)
    state = run.state()
    assert (state.state, state.cause) == ("stopped", "stopped_now")
    assert state.message is not None
    assert name in state.message.text("en")


def test_handlers_are_back_afterwards_and_the_signal_is_passed_on(run: RunStore) -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    with StopSignals(run, this_installation()) as signals:
        assert signal.getsignal(signal.SIGTERM) != before[1]
        os.kill(os.getpid(), signal.SIGINT)
        assert (signals.received, signals.exit_code, run.stop_request.exists()) == (signal.SIGINT, 130, True)
    assert [signal.getsignal(number) for number in SIGNALS] == before
    with pytest.raises(KeyboardInterrupt):
        signals.pass_on()


def test_an_ignored_signal_stays_ignored_and_another_thread_sets_no_handlers(run: RunStore) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopSignals(run, this_installation()):
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
    handlers = [signal.getsignal(number) for number in SIGNALS]
    seen: list[object] = []

    def elsewhere() -> None:
        with StopSignals(run, this_installation()) as signals:
            seen.append([signal.getsignal(number) for number in SIGNALS])
        signals.pass_on()

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert seen == [handlers]


def test_the_handler_waits_for_no_lock_that_the_interrupted_code_holds(run: RunStore) -> None:
    with StopSignals(run, this_installation()) as signals, run.writing():
        os.kill(os.getpid(), signal.SIGTERM)
        assert signals.received == signal.SIGTERM
        assert run.stop_request.exists()


def test_under_a_supervisor_sigterm_stops_like_a_stop(make: Make) -> None:
    run = make(script=OBEYS)
    start_supervisor(run)
    until(lambda: status_of(run).get("stage") == "training", "it trains")
    os.kill(who(run, "trainer").pid, signal.SIGTERM)
    until(run.exit_json.exists, "the end")
    assert run.state().state == "stopped"


def test_under_a_supervisor_a_second_sigterm_is_an_end_from_outside(make: Make) -> None:
    run = make(script=DEAF)
    start_supervisor(run)
    until(lambda: status_of(run).get("stage") == "training", "it trains")
    os.kill(who(run, "trainer").pid, signal.SIGTERM)
    until(run.stop_request.exists, "the stop is asked for")
    os.kill(who(run, "trainer").pid, signal.SIGTERM)
    until(run.exit_json.exists, "the end")
    state = run.state()
    assert (state.state, state.cause) == ("failed", "killed")
    assert state.message is not None
    assert "SIGTERM" in state.message.text("en")


def test_the_deadline_of_a_stop_still_ends_a_trainer_that_hears_signals(make: Make) -> None:
    run = make(script=DEAF)
    start_supervisor(run)
    until(lambda: status_of(run).get("stage") == "training", "it trains")
    request_stop(run, deadline_s=0)
    until(run.exit_json.exists, "the end")
    state = run.state()
    assert (state.state, state.cause) == ("stopped", "stop_deadline")
    assert state.message is not None
    assert "ended by SIGTERM" in state.message.text("en")
