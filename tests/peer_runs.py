"""Runs of two processes: started as at a terminal or under a supervisor, what is left of them, and what becomes of those that are killed."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from lora_backend.config.config_writing import dump_yaml
from lora_backend.runs.checkpoints.manifest import newest_whole
from lora_backend.runs.processes.leases import CPU, holders, release, take
from lora_backend.runs.processes.leftovers import RUN_MARK
from lora_backend.runs.processes.recovery import recover
from lora_backend.runs.processes.supervisor import start_supervisor
from lora_backend.runs.processes.trainer_command import trainer_command
from lora_backend.runs.record.peer_documents import PeerProcess
from lora_backend.runs.record.process_identity import is_alive, marked
from lora_backend.runs.record.run_store import RunStore
from lora_backend.runs.record.transitions import request_stop
from tests.forking_agent import be_forked_agent
from tests.run_files import add_start, log_tail, make_run, points_of, start_again
from tests.runs.stand_in import who
from tests.training.helpers import until

Start = Callable[[RunStore], object]
START_S = 300.0
"""How long a start may take, with three processes that import torch, on a machine that is busy with others."""


def made_for_two(
    workspace: Path, values: dict[str, Any], name: str, argv: list[str] | None = None, strategy: str = "ddp"
) -> RunStore:
    """The folder of a run that two processes train; not started."""
    path, text = workspace / "runs" / name, dump_yaml(values)
    run = make_run(path.parent, config=values, config_text=text, argv=argv or trainer_command(path), path=path)
    add_start(run, strategy=strategy, num_processes=2)
    return run


def started_again(run: RunStore) -> None:
    """Another attempt of it, from its newest whole checkpoint; not started."""
    (newest, _), strategy = newest_whole(run), run.read_attempt().strategy
    start_again(run, "starting", resume_from=newest.name if newest else None, strategy=strategy, num_processes=2)


def forked(run: RunStore, work: str | None = None) -> BaseProcess:
    """Its agent as at a terminal, forked from a process that has torch imported already; it writes to `screen_of`."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.forking_agent"])
    process = context.Process(target=be_forked_agent, args=(str(run.path), work, str(screen_of(run))))
    process.start()
    until(lambda: run.read_status().attempt.trainer or not process.is_alive(), START_S)
    return process


def screen_of(run: RunStore) -> Path:
    return run.path / "screen"


def supervised(run: RunStore) -> None:
    """Its supervisor, with the CPU's lease, as the queue starts it."""
    leases = take(run.workspace / "leases", [CPU], run.path)
    assert leases, "it is free"
    start_supervisor(run, leases)
    release(leases)
    until(lambda: run.read_status().attempt.child or run.exit_json.exists(), START_S)


def peers_of(run: RunStore) -> list[PeerProcess]:
    return run.read_status().attempt.peers


def peer_of(run: RunStore, rank: int) -> int:
    """Its pid."""
    process = peers_of(run)[rank].process
    assert process is not None
    return process.pid


def left_of(run: RunStore) -> list[int]:
    """What is alive of it: by its mark, and, for a forked process has none, by its name in the status."""
    named = [peer.process for peer in peers_of(run) if peer.process and is_alive(peer.process)]
    return sorted({found.pid for found in [*marked(RUN_MARK, str(run.path)), *named]})


def leases_of(run: RunStore) -> list[str]:
    """The runs that hold the CPU."""
    return [holder.run for holder in holders(run.workspace / "leases", [CPU])]


def wait_for_nothing_left(run: RunStore, limit_s: float = 90.0) -> None:
    """Its end is known, no process of it is there, and the CPU is free."""
    until(lambda: recover(run).has_ended, limit_s)
    until(lambda: not left_of(run))
    until(lambda: not leases_of(run))


def end_all(run: RunStore) -> None:
    """Whatever a failed test leaves running."""
    attempt = run.read_status().attempt
    for found in (attempt.supervisor, attempt.child, attempt.trainer):
        if found and is_alive(found):
            os.kill(found.pid, signal.SIGKILL)
    for pid in left_of(run):
        os.kill(pid, signal.SIGKILL)


# ------------------------------------------------------------------------------------------------ kills and stops


def is_saving(run: RunStore) -> bool:
    return any(run.checkpoints.glob(".checkpoint-*.new"))


def last_step(run: RunStore) -> int:
    return max((row["step"] for row in points_of(run)), default=0)


def is_due(run: RunStore, moment: str, step: int) -> bool:
    """Whether it is at the moment: `begins` (both are there, and import, read or load), `trains` or `saves` from a step on."""
    assert not recover(run).has_ended, f"it ended before: {log_tail(run, 3000)}"
    if len([peer for peer in peers_of(run) if peer.process and is_alive(peer.process)]) < 2:
        return False
    if moment == "begins":
        return True
    return run.state().stage == "training" and last_step(run) >= step and (moment == "trains" or is_saving(run))


def disturb(
    run: RunStore, start: Start, roles: list[str], draw: random.Random, ahead: int
) -> Iterator[tuple[str, float]]:
    """Kill or stop the run once for each of `roles`, each time at a random moment up to `ahead` steps after the last, and start
    it again where that ended it. Gives what was done, and the seconds until it was over."""
    is_started = False
    for number, role in enumerate(roles):
        if not is_started:
            if number:
                started_again(run)
            start(run)
        moment, step = draw.choice(["begins", "trains", "saves"]), last_step(run) + draw.randint(1, ahead)
        until(lambda moment=moment, step=step: is_due(run, moment, step), START_S)  # type: ignore[misc]
        before, began = who(run, "trainer"), time.monotonic()
        ACTS[role](run)
        is_started = role == "supervisor"
        if is_started:
            until(lambda: is_alive(who(run, "supervisor")) or recover(run).has_ended)
            assert who(run, "trainer") == before, "it goes on"
            assert leases_of(run) == [run.id]
        else:
            wait_for_nothing_left(run)
            expect_end(run, role)
        yield f"{role} when it {moment}", time.monotonic() - began


def _kill(run: RunStore, role: str) -> None:
    os.kill(who(run, role).pid, signal.SIGKILL)


def _kill_supervisor(run: RunStore) -> None:
    before = who(run, "supervisor")
    os.kill(before.pid, signal.SIGKILL)
    until(lambda: not is_alive(before))
    recover(run)
    until(lambda: who(run, "supervisor") != before)


ACTS: dict[str, Callable[[RunStore], None]] = {
    "rank 0": lambda run: os.kill(peer_of(run, 0), signal.SIGKILL),
    "rank 1": lambda run: os.kill(peer_of(run, 1), signal.SIGKILL),
    "agent": lambda run: _kill(run, "trainer"),
    "supervisor": _kill_supervisor,
    "stop": request_stop,
    "signal": lambda run: os.kill(who(run, "trainer").pid, signal.SIGTERM),
}


def expect_end(run: RunStore, role: str) -> None:
    """What the state says is what was done."""
    state = recover(run)
    if role in ("stop", "signal"):
        assert state.state == "stopped", f"{state} {log_tail(run, 3000)}"
    elif role == "agent":
        is_seen = run.exit_json.exists()
        assert (state.state, state.cause) in (("lost", "lost"), ("failed", "killed"), ("failed", "ended_unseen")), state
        assert is_seen or state.state == "lost"
    else:
        assert (state.state, state.cause) == ("failed", "killed"), f"{state} {log_tail(run, 3000)}"
        assert str(state.message) == f"Process {role[-1]} was ended by SIGKILL."
