"""When runs start and end: what is known is said with where it comes from, and what is not known is not said."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from lora_backend.hardware.inventory import Gpu, GpuInventory
from lora_backend.installation import CHATS
from lora_backend.runs.history.forecast import Forecast, forecasts
from lora_backend.runs.history.run_table import History
from lora_backend.runs.processes.leases import Lease, release, take
from lora_backend.runs.processes.waiting import enter, leases_folder
from lora_backend.runs.record.process_identity import identify
from lora_backend.runs.record.run_store import RunStore
from lora_backend.views.queue_view import expected_messages, forecast_messages
from tests.run_files import add_point, add_start, end_run, make_run, set_attempt, set_status, start_again

NOW = 1_796_000_000.0
CONFIG = {"model_name": "m", "dataset": "rows.jsonl", "num_epochs": 2}


class Workspace:
    """Runs that are made to have done what a test says, by a clock that it sets."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.leases: list[Lease] = []

    def make(self, name: str, state: str = "queued", *, data: str = "d", **config: Any) -> RunStore:
        run = make_run(
            self.path / "runs",
            path=self.path / "runs" / name,
            config={**CONFIG, **config},
            config_text="",
            argv=["true"],
            data_sha256=data,
            state=state if state == "queued" else "starting",
            attempt={"strategy": "cpu"},
        )
        if state == "queued":
            enter(run, self.path)
        return at(run, NOW)

    def finished(self, name: str, **config: Any) -> RunStore:
        """20 steps of 2 s, 10 s before the first of them and 10 s behind the last."""
        run = self.make(name, "starting", **config)
        began = NOW - 10_000
        set_status(run, state="running", started_at=began, step=20, total_steps=20)
        for step, seconds in ((5, 20.0), (10, 30.0), (20, 50.0)):
            add_point(run, {"step": step, "loss": 1.0, "time": began + seconds})
        end_run(at(run, began + 60), "finished")
        return run

    def going(self, name: str, **status: Any) -> RunStore:
        """One that has the CPU."""
        run = self.make(name, "starting")
        mine = identify(os.getpid())
        assert mine
        alive = {"trainer": mine.to_json(), "supervisor": mine.to_json()}
        set_status(at(run, NOW - 10), **{"state": "running", "stage": "training", **status}, **alive)
        self.hold(run.path)
        return run

    def hold(self, path: Path, key: str = "cpu") -> None:
        leases = take(leases_folder(self.path), [key], path)
        assert leases
        self.leases += leases

    def forecasts(self) -> Mapping[str, Forecast]:
        return forecasts(self.path, History(self.path / "runs").rows(), NOW, lambda: GpuInventory(()))


def at(run: RunStore, moment: float) -> RunStore:
    """The same run, by a clock that stands still."""
    return RunStore(run.path, lambda: moment)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    monkeypatch.setenv("FLIGHTDECK_WORKSPACE", str(tmp_path))
    workspace = Workspace(tmp_path)
    yield workspace
    release(workspace.leases)


def from_now(found: Forecast) -> tuple[object, object]:
    starts, ends = (moment and tuple(second - NOW for second in moment) for moment in (found.starts, found.ends))
    return starts, ends


def test_a_queue_follows_from_who_has_the_device_and_how_long_each_takes(here: Workspace) -> None:
    here.finished("1-earlier")
    here.going("2-going", eta_s=90.0)
    here.make("3-like", learning_rate=2e-4, num_epochs=3)
    set_attempt(here.make("4-planned", max_length=99), planned_time={"fast_s": 100.0, "slow_s": 200.0, "num_steps": 5})
    here.make("5-unknown", max_length=88)
    here.make("6-behind")
    found = here.forecasts()
    assert from_now(found["2-going"]) == (None, (90, 90)), "80 s of steps, as written 10 s ago, and 10 s behind them"
    assert found["2-going"].source == "own"
    assert from_now(found["3-like"]) == ((90, 90), (170, 170)), "30 steps of 2 s with 20 s around them"
    assert (found["3-like"].after, found["3-like"].source, found["3-like"].like) == ("2-going", "earlier", "1-earlier")
    assert from_now(found["4-planned"]) == ((170, 170), (270, 370))
    assert (found["4-planned"].after, found["4-planned"].source) == ("3-like", "plan")
    assert from_now(found["5-unknown"]) == ((270, 370), None), "its start is known, its end is not"
    assert (from_now(found["6-behind"]), found["6-behind"].after) == ((None, None), "5-unknown")
    assert set(found) == {"2-going", "3-like", "4-planned", "5-unknown", "6-behind"}, "what has ended has none"


@pytest.mark.parametrize(
    ("changes", "is_like"),
    [
        ({}, True),
        ({"learning_rate": 1e-3, "r": 64, "seed": 7, "output_dir": "elsewhere"}, True),
        ({"batch_size": 4}, True),  # which is the default
        ({"max_length": 512}, False),
        ({"batch_size": 8}, False),
        ({"quantization": "nf4"}, False),
        ({"gradient_checkpointing": True}, False),
        ({"model_name": "another"}, False),
        ({"data": "other rows"}, False),
    ],
)
def test_only_a_run_of_as_much_work_on_the_same_rows_says_how_long_another_takes(
    here: Workspace, changes: dict[str, Any], is_like: bool
) -> None:
    here.finished("1-earlier")
    here.make("2-waits", **changes)
    assert (here.forecasts()["2-waits"].like == "1-earlier") is is_like


def test_another_device_says_nothing_and_neither_does_a_run_that_was_stopped(here: Workspace) -> None:
    set_attempt(here.finished("1-elsewhere"), strategy="single", device_uuids=["GPU-a"])
    stopped = here.make("2-stopped", "starting")
    set_status(stopped, state="running")
    end_run(stopped, "stopped")
    here.make("3-waits")
    assert here.forecasts()["3-waits"].ends is None


def test_a_resumed_run_goes_on_at_its_own_pace_from_its_checkpoint(here: Workspace) -> None:
    run = here.finished("1-resumed", num_epochs=2)
    (run.path / "exit.json").unlink()
    end_run(run, "stopped")
    start_again(run, "queued", resume_from="checkpoint-15", changes={"num_epochs": 3}, strategy="cpu")
    enter(run, here.path)
    found = here.forecasts()["1-resumed"]
    assert from_now(found) == ((0, 0), (40, 40)), "15 of 30 steps of 2 s, and 10 s before them"
    assert found.source == "own"


def test_a_run_that_has_not_said_how_long_it_takes_is_judged_by_an_earlier_one(here: Workspace) -> None:
    here.finished("1-earlier")
    here.going("2-loads", stage="loading", started_at=NOW - 20)
    here.make("3-waits")
    found = here.forecasts()
    assert (from_now(found["2-loads"]), found["2-loads"].like) == ((None, (40, 40)), "1-earlier")
    set_status(RunStore(here.path / "runs" / "2-loads"), started_at=NOW - 500)
    overdue = here.forecasts()["3-waits"]
    assert overdue.starts == (NOW, NOW), "a moment that has passed is not told"
    (start, _) = forecast_messages(overdue, {"2-loads": "mine"}, NOW)
    assert start.text("en") == "Starts as soon as mine ends."


def test_a_model_that_is_being_tried_makes_room_and_memory_that_others_hold_has_no_end(here: Workspace) -> None:
    here.hold(here.path / CHATS, "GPU-a")
    tried = here.make("1-tried")
    add_start(tried, device_uuids=["GPU-a"])
    enter(tried, here.path)
    assert here.forecasts()["1-tried"].starts == (NOW, NOW)
    lacking = here.make("2-lacking")
    device = {"index": 0, "uuid": "GPU-b", "total_bytes": 2**30}
    add_start(lacking, device_uuids=["GPU-b"], plan={"devices": [device]})
    enter(lacking, here.path)
    gpus = GpuInventory((Gpu(0, "GPU-b", "card", 2**30, 2**29, (8, 0)),))
    found = forecasts(here.path, History(here.path / "runs").rows(), NOW, lambda: gpus)
    assert found["2-lacking"].starts is None


def test_each_sentence_says_what_it_is_judged_by(here: Workspace) -> None:
    names = {"b": "the big one", "a": "an older one"}
    at_noon = NOW - NOW % 86_400 + 43_200

    def said(found: Forecast) -> list[str]:
        return [message.text("en") for message in forecast_messages(found, names, at_noon)]

    soon, later = (at_noon + 720, at_noon + 720), (at_noon + 720, at_noon + 1200)
    assert said(Forecast(starts=soon, after="b")) == ["Starts in about 12 min, after the big one."]
    assert said(Forecast(starts=later, after="b")) == ["Starts in 12 to 20 min, after the big one."]
    assert said(Forecast(starts=(at_noon, at_noon))) == []
    assert said(Forecast(after="b")) == []
    (by_earlier,) = said(Forecast(ends=soon, source="earlier", like="a"))
    assert by_earlier.endswith("if it takes as long as an older one.")
    (by_plan,) = said(Forecast(ends=later, source="plan"))
    assert by_plan.startswith("Ends between ")
    assert by_plan.endswith("by the plan's estimate.")
    assert expected_messages(here.path, [], NOW) == {}
