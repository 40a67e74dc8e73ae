"""Whatever is written down of a run, a lease or the trash bears the time of the clock that was handed down, even one that jumps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from lora_backend.installation import Installation, this_installation
from lora_backend.runs.history.replaced_adapters import AdapterBin
from lora_backend.runs.history.trash import Bin
from lora_backend.runs.processes.leases import holders, release, take
from lora_backend.runs.record.attempts import Attempt
from lora_backend.runs.record.run_store import RunStore, new_run_id
from lora_backend.runs.record.transitions import NewRun, add_attempt, create, request_save, request_stop
from tests.run_files import end_run, set_status
from tests.tiny import make_published

DAY_S = 86_400.0
BEGIN = 1_700_000_000.0


class Jumping:
    """Stands still until it is set."""

    def __init__(self) -> None:
        self.now = BEGIN

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Jumping:
    return Jumping()


@pytest.fixture
def places(workspace: Path, clock: Jumping) -> Installation:
    return replace(this_installation(), clock=clock)


@pytest.fixture
def run(places: Installation) -> RunStore:
    new = NewRun(config={"r": 4}, config_text="r: 4\n", argv=None, attempt=Attempt())
    return create(places.runs / new_run_id(places.clock), new, places)


def test_a_run_is_made_moved_and_ended_at_the_time_of_its_clock(run: RunStore, clock: Jumping) -> None:
    status = run.read_status()
    assert {run.read_record().created_at, status.created_at, status.updated_at, run.read_attempt().time} == {BEGIN}
    clock.now += DAY_S
    set_status(run, state="running", step=1)
    request_save(run)
    request_stop(run)
    asked = run.read_stop_request()
    assert asked is not None
    assert (run.read_status().updated_at, asked.time) == (BEGIN + DAY_S, BEGIN + DAY_S)
    clock.now -= 2 * DAY_S
    end_run(run, "stopped")
    ended = run.read_exit()
    assert ended is not None
    assert ended.ended_at == BEGIN - DAY_S
    add_attempt(run, Attempt())
    assert run.read_attempt().time == BEGIN - DAY_S


def test_runs_are_named_by_the_clock(places: Installation, clock: Jumping) -> None:
    first = new_run_id(clock)
    clock.now += DAY_S
    assert first < new_run_id(clock)
    clock.now = BEGIN
    assert new_run_id(clock)[:15] == first[:15]
    within_a_second = []
    for step in range(5):
        clock.now = BEGIN + step / 250
        within_a_second.append(new_run_id(clock))
    assert within_a_second == sorted(within_a_second), "whatever is drawn to tell two apart"


def test_a_lease_says_since_when_by_the_clock(places: Installation, run: RunStore, clock: Jumping) -> None:
    clock.now -= DAY_S
    leases = take(places.leases, ["cpu"], run.path, clock=run.clock)
    assert leases
    try:
        assert [holder.since for holder in holders(places.leases, ["cpu"])] == [BEGIN - DAY_S]
    finally:
        release(leases)


def test_the_trash_lists_runs_by_the_clock_that_deleted_them(places: Installation, clock: Jumping) -> None:
    ids = []
    for moment in (BEGIN + DAY_S, BEGIN):  # it was set back between the two
        clock.now = moment
        run = create(places.runs / new_run_id(clock), NewRun(config={}, config_text="", argv=None), places)
        end_run(run, "failed")
        Bin(places.workspace).delete(run)
        ids.append((run.id, moment))
    assert [(item.id, item.deleted_at) for item in Bin(places.workspace).list()] == ids


def test_a_replaced_adapter_is_kept_under_the_time_of_the_clock(places: Installation, clock: Jumping) -> None:
    adapter = make_published(places.workspace / "adapters/shop/1", "old")
    clock.now += DAY_S
    kept = AdapterBin(places).put(adapter, {"pkg": "shop", "version": "1"}, "run")
    assert kept.deleted_at == BEGIN + DAY_S
    assert kept.id[:15] == new_run_id(clock)[:15]
