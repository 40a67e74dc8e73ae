"""Time left with its bounds, and what a run that goes on is warned of."""

from __future__ import annotations

import json
import shutil
from collections import namedtuple
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lora_backend.runs.history import alerts as module
from lora_backend.runs.history.alerts import Alert, alerts
from lora_backend.runs.history.pace import time_left
from lora_backend.runs.record.curves import COLUMNS, Column
from lora_backend.runs.record.process_identity import boot_clock_s
from lora_backend.runs.record.run_store import RunStore
from lora_backend.runs.record.states import RunState
from tests.run_files import make_run, set_status

RUNNING = RunState("running", "training", step=50, total_steps=100)
Usage = namedtuple("Usage", "total used free")


def columns(count: int, **given: Any) -> dict[str, Column]:
    found = {name: np.full(count, np.nan) for name in COLUMNS}
    plain = {"step": np.arange(1.0, count + 1), "time": np.arange(float(count)), "learning_rate": np.ones(count)}
    quiet = {"loss": np.ones(count), "grad_norm": np.ones(count)}
    return found | plain | quiet | {name: np.asarray(values, float) for name, values in given.items()}


@pytest.fixture
def run(tmp_path: Path) -> RunStore:
    run = make_run(tmp_path, config={"model_name": "m"}, config_text="", argv=None)
    set_status(run, state="running")
    return run


def kinds(found: list[Alert]) -> list[str]:
    return [alert.kind for alert in found]


def test_the_time_left_is_within_its_bounds_as_often_as_it_says() -> None:
    draw = np.random.default_rng(0)
    inside = 0
    for _ in range(300):
        spent = draw.gamma(4.0, 0.5, 200)  # seconds a step
        times = np.cumsum(spent)
        found = time_left(columns(60, time=times[:60], step=np.arange(60)), 199)
        assert found is not None
        assert found.low_s <= found.expected_s <= found.high_s
        inside += found.low_s <= times[199] - times[59] <= found.high_s
    assert 0.9 < inside / 300 <= 1.0


def test_no_time_is_named_before_it_is_known_and_another_start_does_not_count() -> None:
    assert time_left({}, 10) is None
    assert time_left(columns(3), 10) is None
    assert time_left(columns(10), None) is None
    assert time_left(columns(10), 10) is None, "nothing is left"
    stopped_for_a_day = np.array([0, 1, 2, 3, 4, 86400, 86401, 86402, 86403, 86404.0])
    found = time_left(columns(10, time=stopped_for_a_day), 20, since=86399)
    assert found is not None
    assert found == pytest.approx((10, 10, 10))


def test_evaluations_and_clocks_that_are_set_back_do_not_disturb() -> None:
    steps, times = [1, 2, 3, 3, 4, 5, 6], [0, 1, 2, 2.5, 3, -500, -499]
    found = time_left(columns(7, step=steps, time=times), 16)
    assert found is not None
    assert 9 < found.expected_s < 11


def logged(run: RunStore, losses: Iterable[float], grad_norm: float = 1.0) -> RunStore:
    lines = [{"step": step, "loss": float(loss), "grad_norm": grad_norm} for step, loss in enumerate(losses, 1)]
    run.metrics_jsonl.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return run


def test_a_quiet_run_has_no_alert(run: RunStore) -> None:
    draw = np.random.default_rng(1)
    for _ in range(50):
        falling = 2 * np.exp(-np.arange(200) / 80) + 0.5 + draw.normal(0, 0.15, 200)
        assert alerts(logged(run, falling), RUNNING, columns(200, loss=falling)) == []
    assert alerts(run, RUNNING, {}) == []


def test_a_loss_that_turns_away_is_told_with_its_step(run: RunStore) -> None:
    logged(run, np.concatenate([np.linspace(2, 1, 100), np.linspace(1, 2, 60)]))
    (alert,) = alerts(run, RUNNING, columns(160))
    assert alert.kind == "divergence"
    assert 90 < alert.message.values["step"] < 115


def test_a_loss_far_above_its_start_is_told_at_the_third_point(run: RunStore) -> None:
    logged(run, [2.13, 2.1, 30.0])
    (alert,) = alerts(run, RUNNING, columns(3))
    assert (alert.kind, alert.message.values["step"]) == ("divergence", 3)


def test_a_gradient_of_0_is_told(run: RunStore) -> None:
    logged(run, [2.13, 3.4012, 3.4012], grad_norm=0.0)
    assert kinds(alerts(run, RUNNING, columns(3))) == ["dead"]


def test_numbers_that_are_none_are_counted(run: RunStore) -> None:
    loss, norm = np.ones(50), np.ones(50)
    norm[:3] = np.nan
    assert alerts(run, RUNNING, columns(50, grad_norm=norm)) == [], "fp16 looks for its scale at first"
    norm[:20] = np.inf
    assert kinds(alerts(run, RUNNING, columns(50, grad_norm=norm))) == ["nan"]
    loss[40] = np.nan
    assert kinds(alerts(run, RUNNING, columns(50, loss=loss))) == ["nan"]


def test_silence_is_told_from_a_long_step(run: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
    later = boot_clock_s() + 300
    monkeypatch.setattr(module, "boot_clock_s", lambda: later)
    assert kinds(alerts(run, RUNNING, columns(50))) == ["stall"]
    slow = np.arange(50.0) * 40  # seconds between points
    assert alerts(run, RUNNING, columns(50, time=slow)) == []
    assert alerts(run, RunState("running", "loading"), columns(50)) == []
    (alert,) = alerts(run, RunState("running", "loading", silent_s=700.0), {})
    assert alert.message.values["count"] == 12


def test_a_disk_without_room_for_two_checkpoints_is_told(run: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(0, 0, 2**29))
    assert kinds(alerts(run, RUNNING, {})) == ["disk"]
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(0, 0, 3 * 2**30))
    assert alerts(run, RUNNING, {}) == []
    (run.checkpoints / "checkpoint-1").mkdir(parents=True)
    with (run.checkpoints / "checkpoint-1/optimizer.pt").open("wb") as file:
        file.truncate(2 * 2**30)
    assert kinds(alerts(run, RUNNING, {})) == ["disk"]


@pytest.mark.parametrize("state", ["finished", "failed", "queued"])
def test_what_is_not_being_trained_has_no_alert(run: RunStore, state: str) -> None:
    assert alerts(run, RunState(state), columns(50, loss=np.full(50, np.nan))) == []
