"""Kills and stops of any of two processes, and of what watches them, at random moments: nothing is left, nothing is lost."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lora_backend.runs.record.run_store import RunStore
from tests.peer_runs import (
    START_S,
    Start,
    disturb,
    end_all,
    forked,
    made_for_two,
    started_again,
    supervised,
    wait_for_nothing_left,
)
from tests.run_files import log_tail
from tests.training.helpers import adapter_bytes, curve

Make = Callable[..., dict[str, Any]]
VALUES: dict[str, Any] = {
    "lora_dropout": 0.1, "batch_size": 2, "target_batch_size": 8, "logging_steps": 1, "save_steps": 2, "num_epochs": 400,
}  # fmt: skip
AHEAD = 5


@pytest.fixture
def make(config: Make, workspace: Path) -> Iterator[Callable[..., RunStore]]:
    runs: list[RunStore] = []

    def make(name: str, steps: int, strategy: str) -> RunStore:
        runs.append(made_for_two(workspace, config(**VALUES, max_steps=steps), name, strategy=strategy))
        return runs[-1]

    yield make
    for run in runs:
        end_all(run)


def proved(
    make: Callable[..., RunStore], start: Start, roles: list[str], seed: int, strategy: str = "ddp"
) -> list[tuple[str, float]]:
    """After all that is done to a run it ends as one that nothing was done to."""
    steps = AHEAD * (len(roles) + 1)
    whole, run = make("whole", steps, strategy), make("disturbed", steps, strategy)
    start(whole)
    wait_for_nothing_left(whole, START_S)
    assert whole.state().state == "finished", log_tail(whole, 3000)
    done = list(disturb(run, start, roles, random.Random(seed), AHEAD))
    if run.state().has_ended:
        started_again(run)
        start(run)
    wait_for_nothing_left(run, START_S)
    assert run.state().state == "finished", log_tail(run, 3000)
    assert {attempt.strategy for attempt in run.read_attempts()} == {strategy}
    assert curve(run) == curve(whole)
    assert adapter_bytes(run) == adapter_bytes(whole)
    assert not list(run.checkpoints.glob(".checkpoint-*")), "nothing half written is left"
    return done


@pytest.mark.timeout(600)
def test_ten_kills_and_stops_leave_adapter_and_curve_as_in_an_undisturbed_run(make: Callable[..., RunStore]) -> None:
    roles = ["rank 0", "rank 1", "agent", "stop", "signal"] * 2
    random.Random(3).shuffle(roles)
    proved(make, forked, roles, seed=5)


@pytest.mark.timeout(600)
def test_with_shared_out_weights_a_kill_and_a_stop_leave_them_too(make: Callable[..., RunStore]) -> None:
    proved(make, forked, ["rank 1", "stop"], seed=2, strategy="fsdp")


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_with_shared_out_weights_fifteen_kills_and_stops_leave_them_too(make: Callable[..., RunStore]) -> None:
    roles = ["rank 0", "rank 1", "agent", "stop", "signal"] * 3
    random.Random(13).shuffle(roles)
    proved(make, forked, roles, seed=17, strategy="fsdp")


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_forty_kills_and_stops_under_a_supervisor_leave_adapter_and_curve_as_in_an_undisturbed_run(
    make: Callable[..., RunStore], record_property: Callable[[str, object], None]
) -> None:
    roles = ["rank 0", "rank 1", "agent", "stop", "signal"] * 6 + ["supervisor"] * 10
    random.Random(7).shuffle(roles)
    done = proved(make, supervised, roles, seed=11)
    slowest = max(seconds for _, seconds in done)
    record_property(
        "figures",
        f"two processes, {len(done)} kills and stops of any of them: adapter and curve bit-identical; over within {slowest:.1f} s",
    )
