"""A run of several processes as its agent sees it: who fails is told apart, and nobody is left behind."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lora_backend.runs.processes.recovery import recover
from lora_backend.runs.record.process_identity import is_alive
from lora_backend.runs.record.run_store import RunStore
from lora_backend.runs.record.transitions import request_stop
from tests.forking_agent import FAILING_RANK
from tests.peer_runs import (
    START_S,
    end_all,
    forked,
    leases_of,
    left_of,
    made_for_two,
    peer_of,
    peers_of,
    screen_of,
    supervised,
    wait_for_nothing_left,
)
from tests.run_files import log_tail
from tests.runs.stand_in import kill, who
from tests.training.helpers import until

Make = Callable[..., dict[str, Any]]
Started = Callable[..., RunStore]


def is_training(run: RunStore) -> bool:
    state = run.state()
    assert not run.exit_json.exists(), log_tail(run, 3000)
    return state.step > 0 and len(peers_of(run)) == 2


@pytest.fixture
def make(config: Make, workspace: Path) -> Iterator[Started]:
    """Makes runs of two processes that do `work` in the place of training."""
    runs: list[RunStore] = []

    def make(work: str = "steps") -> RunStore:
        path = workspace / "runs" / f"run{len(runs)}"
        argv = [sys.executable, "-m", "tests.forking_agent", str(path), work]
        runs.append(made_for_two(workspace, config(), path.name, argv))
        return runs[-1]

    yield make
    for run in runs:
        end_all(run)


FAILED = {
    "fail": ("code", "Process 1: The run failed with ValueError: a bad thing"),
    "memory": ("host_out_of_memory", "Process 1: The machine ran out of memory."),
    "crash": ("fault", "Process 1 crashed with SIGSEGV."),
    "silent": ("crashed", "Process 1 ended with code 0 without saying why. See its log."),
    "code": ("crashed", "Process 1 ended with code 7 without saying why. See its log."),
    "nan": ("nan_loss", "Process 1: The loss or the adapter is NaN or infinite at step 5"),
    "deaf": ("code", "Process 1: The run failed with ValueError: a bad thing"),
}


@pytest.mark.parametrize("work", FAILED)
def test_a_run_ends_with_the_failure_of_the_process_that_failed_first(work: str, make: Started) -> None:
    """Also where the other one hears no SIGTERM, and would be in the way of the next start."""
    run = make(work)
    agent = forked(run, work)
    agent.join(120)
    assert agent.exitcode == 1, screen_of(run).read_text()
    wait_for_nothing_left(run)
    cause, sentence = FAILED[work]
    how = run.read_exit()
    assert how is not None
    assert (how.state, how.cause) == ("failed", cause), screen_of(run).read_text()
    assert how.message is not None
    assert how.message.text("en").startswith(sentence)
    assert sentence in screen_of(run).read_text()
    assert str(run.peer_log(FAILING_RANK)) in screen_of(run).read_text()
    if cause in ("code", "host_out_of_memory", "nan_loss"):
        assert "Traceback" in run.peer_log(FAILING_RANK).read_text()
    assert "Traceback" not in screen_of(run).read_text()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("rank", [0, 1])
def test_a_process_that_is_killed_is_named_and_its_follower_is_not(rank: int, number: int, make: Started) -> None:
    run = make()
    agent = forked(run, "steps")
    until(lambda: is_training(run), START_S)
    assert leases_of(run) == [run.id]
    os.kill(peer_of(run, rank), number)
    agent.join(120)
    wait_for_nothing_left(run)
    state = run.state()
    assert (state.state, state.cause) == ("failed", "killed")
    assert str(state.message) == f"Process {rank} was ended by {signal.Signals(number).name}."
    assert state.remedy is not None


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_the_agent_stops_all_of_them_at_a_step(number: int, make: Started) -> None:
    run = make()
    agent = forked(run, "steps")
    until(lambda: is_training(run), START_S)
    os.kill(who(run, "trainer").pid, number)
    agent.join(120)
    assert agent.exitcode == 128 + number
    wait_for_nothing_left(run)
    assert run.state().state == "stopped"
    assert [peer.is_done for peer in peers_of(run)] == [True, True]
    assert "Stopping: saving a checkpoint after this step" in screen_of(run).read_text()


def test_a_second_signal_ends_all_of_them_at_once(make: Started) -> None:
    run = make("steps")
    agent = forked(run, "busy")
    until(lambda: is_training(run), START_S)
    os.kill(who(run, "trainer").pid, signal.SIGINT)
    until(lambda: run.stop_request.exists())
    os.kill(who(run, "trainer").pid, signal.SIGINT)
    agent.join(120)
    assert agent.exitcode == 128 + signal.SIGINT
    wait_for_nothing_left(run)
    assert (run.state().state, run.state().cause) == ("stopped", "stopped_now")


def test_no_process_outlives_its_agent(make: Started) -> None:
    run = make()
    agent = forked(run, "steps")
    until(lambda: is_training(run), START_S)
    os.kill(who(run, "trainer").pid, signal.SIGKILL)
    agent.join(120)
    until(lambda: not left_of(run))
    until(lambda: not leases_of(run))
    assert run.state().state == "lost", "nobody was there to see it"


def test_a_supervised_run_is_adopted_and_its_lease_held_to_the_last(make: Started) -> None:
    """Supervisor dead, its successor; agent killed: what is left is ended, and only then the CPU is free."""
    run = make()
    supervised(run)
    until(lambda: is_training(run), START_S)
    pids = left_of(run)
    assert len(pids) == 3, "an agent and two processes"
    first = kill(run, "supervisor")
    assert recover(run).state == "running"
    until(lambda: who(run, "supervisor") != first and is_alive(who(run, "supervisor")))
    assert leases_of(run) == [run.id], "the successor has none; the others hold it"
    assert left_of(run) == pids
    kill(run, "trainer")
    wait_for_nothing_left(run)
    assert (run.state().state, run.state().cause) == ("failed", "ended_unseen")


def test_a_supervised_run_says_which_process_failed(make: Started) -> None:
    run = make("fail")
    supervised(run)
    wait_for_nothing_left(run, START_S)
    how = run.read_exit()
    assert how is not None
    assert (how.state, how.cause, str(how.message)) == ("failed", *FAILED["fail"])
    assert how.log == run.peer_log(FAILING_RANK).read_text().splitlines()[-20:], "its own log"
    assert any("a bad thing" in line for line in how.log)


def test_a_stop_that_nobody_hears_ends_all_of_them_at_its_deadline(make: Started) -> None:
    run = make("busy")
    supervised(run)
    until(lambda: is_training(run), START_S)
    request_stop(run, deadline_s=0.5)
    wait_for_nothing_left(run)
    assert (run.state().state, run.state().cause) == ("stopped", "stop_deadline")
