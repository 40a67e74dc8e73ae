"""Time left with its bounds, and what a run that goes on is warned of."""

from __future__ import annotations

import shutil
from collections import namedtuple
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lora_backend.runs import alerts as module
from lora_backend.runs.alerts import Alert, alerts
from lora_backend.runs.curves import COLUMNS, Column
from lora_backend.runs.folder import RunFolder, RunState
from lora_backend.runs.pace import time_left
from lora_backend.runs.process import boot_clock_s

RUNNING = RunState("running", "training", step=50, total_steps=100)
Usage = namedtuple("Usage", "total used free")


def columns(count: int, **given: Any) -> dict[str, Column]:
    found = {name: np.full(count, np.nan) for name in COLUMNS}
    plain = {"step": np.arange(1.0, count + 1), "time": np.arange(float(count)), "learning_rate": np.ones(count)}
    quiet = {"loss": np.ones(count), "grad_norm": np.ones(count)}
    return found | plain | quiet | {name: np.asarray(values, float) for name, values in given.items()}


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    run = RunFolder.create(tmp_path, config={"model_name": "m"}, config_text="", argv=None)
    run.write_status(state="running")
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


def test_a_quiet_run_has_no_alert(run: RunFolder) -> None:
    draw = np.random.default_rng(1)
    for _ in range(50):
        falling = 2 * np.exp(-np.arange(200) / 80) + 0.5 + draw.normal(0, 0.15, 200)
        assert alerts(run, RUNNING, columns(200, loss=falling)) == []
    assert alerts(run, RUNNING, {}) == []


def test_a_loss_that_turns_away_is_told_with_its_step(run: RunFolder) -> None:
    loss = np.concatenate([np.linspace(2, 1, 100), np.linspace(1, 4, 60)])
    (alert,) = alerts(run, RUNNING, columns(160, loss=loss))
    assert alert.kind == "divergence"
    assert 90 < alert.message.values["step"] < 115


def test_numbers_that_are_none_are_counted(run: RunFolder) -> None:
    loss, norm = np.ones(50), np.ones(50)
    norm[:3] = np.nan
    assert alerts(run, RUNNING, columns(50, grad_norm=norm)) == [], "fp16 looks for its scale at first"
    norm[:20] = np.inf
    assert kinds(alerts(run, RUNNING, columns(50, grad_norm=norm))) == ["nan"]
    loss[40] = np.nan
    assert kinds(alerts(run, RUNNING, columns(50, loss=loss))) == ["nan"]


def test_silence_is_told_from_a_long_step(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    later = boot_clock_s() + 300
    monkeypatch.setattr(module, "boot_clock_s", lambda: later)
    assert kinds(alerts(run, RUNNING, columns(50))) == ["stall"]
    slow = np.arange(50.0) * 40  # seconds between points
    assert alerts(run, RUNNING, columns(50, time=slow)) == []
    assert alerts(run, RunState("running", "loading"), columns(50)) == []
    (alert,) = alerts(run, RunState("running", "loading", silent_s=700.0), {})
    assert alert.message.values["minutes"] == 12


def test_a_disk_without_room_for_two_checkpoints_is_told(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(0, 0, 2**29))
    assert kinds(alerts(run, RUNNING, {})) == ["disk"]
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(0, 0, 3 * 2**30))
    assert alerts(run, RUNNING, {}) == []
    (run.checkpoints / "checkpoint-1").mkdir(parents=True)
    with (run.checkpoints / "checkpoint-1/optimizer.pt").open("wb") as file:
        file.truncate(2 * 2**30)
    assert kinds(alerts(run, RUNNING, {})) == ["disk"]


@pytest.mark.parametrize("state", ["finished", "failed", "queued"])
def test_what_is_not_being_trained_has_no_alert(run: RunFolder, state: str) -> None:
    assert alerts(run, RunState(state), columns(50, loss=np.full(50, np.nan))) == []
