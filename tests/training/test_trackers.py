"""Trackers beside a run: they get its points, go on with it, and can neither end it nor hold it up."""

from __future__ import annotations

import importlib
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from accelerate.state import AcceleratorState, PartialState
from accelerate.tracking import GeneralTracker

from lora_backend.config.schema import TrainingConfig
from lora_backend.runs.record.documents import MetricPoint
from lora_backend.runs.record.run_store import RunStore
from lora_backend.training import trackers as trackers_module
from lora_backend.training.trackers import Follower, following, names_of, plain_values
from tests.run_files import make_run, points_of
from tests.training.helpers import adapter_bytes, curve, resumed, run, stopped_at

Make = Callable[..., dict[str, Any]]


@pytest.fixture(autouse=True)
def _accelerate() -> Iterator[None]:
    PartialState()
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


def scalars(folder: RunStore) -> dict[str, list[tuple[int, float]]]:
    """Tag → steps and values, as TensorBoard itself reads them."""
    reading = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    found = reading.EventAccumulator(str(folder.path / "tensorboard"))
    found.Reload()
    return {tag: [(event.step, event.value) for event in found.Scalars(tag)] for tag in found.Tags()["scalars"]}


def of_points(folder: RunStore, name: str) -> list[tuple[int, Any]]:
    return [(row["step"], pytest.approx(row[name], rel=1e-5)) for row in points_of(folder) if name in row]


EVALUATED = {"val_size": 0.25, "eval_strategy": "steps", "eval_steps": 2, "num_epochs": 2}


def test_tensorboard_has_every_point_of_the_run(config: Make, workspace: Path) -> None:
    pytest.importorskip("tensorboard", reason="TensorBoard is not installed here")
    values = config(**EVALUATED)
    folder, silent = run(workspace, values | {"report_to": "tensorboard"}), run(workspace, values)
    found = scalars(folder)
    for name, tag in (("loss", "train/loss"), ("learning_rate", "train/learning_rate"), ("eval_loss", "eval/loss")):
        assert found[tag] == of_points(folder, name)
        assert len(found[tag]) > 1
    assert found["eval/token_accuracy"] == of_points(folder, "eval_token_accuracy")
    assert curve(folder) == curve(silent)
    assert adapter_bytes(folder) == adapter_bytes(silent)
    assert not (silent.path / "tensorboard").exists(), "off unless asked for"


def test_a_resumed_run_goes_on_in_the_same_tensorboard_run(config: Make, workspace: Path) -> None:
    pytest.importorskip("tensorboard", reason="TensorBoard is not installed here")
    values = config(**EVALUATED, report_to=["tensorboard"])
    folder = resumed(stopped_at(workspace, values, 3))
    assert scalars(folder)["train/loss"] == of_points(folder, "loss")
    assert scalars(folder)["eval/loss"] == of_points(folder, "eval_loss")


def test_trackio_has_every_point_and_a_resumed_run_goes_on_in_the_same(
    config: Make, workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))  # read when it is first imported, which is here
    pytest.importorskip("trackio", reason="Trackio is not installed here")
    storage = importlib.import_module("trackio.sqlite_storage").SQLiteStorage
    values = config(**EVALUATED, report_to="trackio", pkg="tracked", version="1", knowledge_type="k")
    folder = resumed(stopped_at(workspace, values, 3))
    assert storage.get_runs("tracked") == [folder.id]
    logs = storage.get_logs("tracked", folder.id)
    losses = {row["step"]: row["train/loss"] for row in logs if "train/loss" in row}
    assert losses == {row["step"]: pytest.approx(row["loss"]) for row in points_of(folder) if "loss" in row}


class Recording(GeneralTracker):  # type: ignore[misc]  # accelerate's class is untyped
    """Keeps what it is told; raises, or waits, where it is asked to."""

    name, requires_logging_directory, main_process_only = "recording", False, False

    def __init__(self, fails_at: str = "", waits: threading.Event | None = None) -> None:
        super().__init__()
        self.fails_at, self.waits = fails_at, waits
        self.told: list[Any] = []
        self.calls: list[str] = []

    @property
    def tracker(self) -> object:
        return self

    def _do(self, what: str, told: Any = None) -> None:
        self.calls.append(what)
        if self.waits is not None:
            self.waits.wait()
        if what == self.fails_at:
            raise ConnectionError("https://user:hunter2hunter2@host is not there")
        if told is not None:
            self.told.append(told)

    def start(self) -> None:
        self._do("start")

    def store_init_configuration(self, values: dict[str, Any]) -> None:
        self._do("config", values)

    def log(self, values: dict[str, Any], step: int | None = None, **_: Any) -> None:
        self._do("log", (step, values))

    def finish(self) -> None:
        self._do("finish")


def use(monkeypatch: pytest.MonkeyPatch, tracker: Recording) -> None:
    monkeypatch.setattr(trackers_module, "_maker", lambda *_: lambda: tracker)


@pytest.mark.parametrize("moment", ["start", "config", "log", "finish"])
def test_one_that_fails_is_told_of_once_and_the_run_goes_on(
    moment: str, config: Make, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, tracker := Recording(moment))
    values = config(num_epochs=2, report_to="tensorboard")
    folder = run(workspace, values)
    assert folder.state().state == "finished"
    log = folder.train_log.read_text()
    assert log.count("tensorboard fails (ConnectionError)") == 1
    assert tracker.calls.count(moment) == 1
    assert "hunter2" not in log


def test_one_that_does_not_answer_holds_nobody_up(
    config: Make, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, Recording(waits=(answer := threading.Event())))
    monkeypatch.setattr(trackers_module, "START_S", 0.01)
    monkeypatch.setattr(trackers_module, "FINISH_S", 0.01)
    try:
        folder = run(workspace, config(num_epochs=2, report_to="tensorboard"))
    finally:
        answer.set()
    assert folder.state().state == "finished"
    assert "tensorboard does not answer" in folder.train_log.read_text()


def test_the_config_is_told_once_and_no_secret_is_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, tracker := Recording())
    token = "hf_" + "a1B2" * 8
    values: dict[str, Any] = {
        "model_name": "m",
        "target_modules": ["q", "v"],
        "output_dir": token,
        "report_to": ["wandb", "wandb"],
    }
    typed, folder = TrainingConfig(**values), make_run(tmp_path, config=values, config_text="", argv=None)
    for step in (0, 7):
        with following(typed, folder, step) as trackers:
            trackers.log(MetricPoint(step=step + 1, loss=1.5, eval_loss=None))
    told = [one for one in tracker.told if isinstance(one, dict)]
    assert len(told) == 1, "only the first start tells it"
    assert told[0]["target_modules"] == '["q", "v"]'
    assert all(isinstance(value, bool | int | float | str) for value in told[0].values())
    assert token not in json.dumps(told)
    assert [one for one in tracker.told if isinstance(one, tuple)] == [
        (1, {"train/loss": 1.5}),
        (8, {"train/loss": 1.5}),
    ]


def test_a_tracker_that_names_the_run_itself_gets_its_name_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str | None] = []

    class Named(Recording):
        info = type("Info", (), {"run_id": "abc"})

    def maker(*args: Any) -> type[Named]:
        asked.append(args[-1])
        return Named

    monkeypatch.setattr(trackers_module, "_maker", maker)
    folder = make_run(tmp_path, config={"model_name": "m"}, config_text="", argv=None, attempt={})
    for step in (0, 4):
        with following(TrainingConfig(model_name="m", report_to="mlflow"), folder, step):
            pass
    assert asked == [None, "abc"]
    assert folder.read_attempt().tracker_runs == {"mlflow": "abc"}


def test_each_tracker_is_made_for_the_run(tmp_path: Path) -> None:
    """Those that are not installed here are made without being started."""
    folder = make_run(tmp_path, config={"model_name": "m"}, config_text="", argv=None)
    typed = TrainingConfig(model_name="m", pkg="team", report_to=["mlflow", "wandb", "trackio", "tensorboard"])
    made = {name: trackers_module._maker(name, typed, folder, 4, "known")() for name in names_of(typed)}
    assert (made["mlflow"].experiment_name, made["mlflow"].run_name, made["mlflow"].run_id) == (
        "team",
        folder.id,
        "known",
    )
    assert made["wandb"].run_name == made["trackio"].run_name == "team"
    assert made["wandb"].init_kwargs == {"name": folder.id, "id": folder.id, "resume": "allow", "dir": str(folder.path)}
    assert made["trackio"].init_kwargs == {"name": folder.id, "resume": "allow"}
    assert made["tensorboard"].init_kwargs == {"purge_step": 5}


def test_none_is_none() -> None:
    assert names_of(TrainingConfig(model_name="m")) == []
    assert plain_values(TrainingConfig(model_name="m"))["r"] == 16
    assert isinstance(Follower("x", Recording, None).daemon, bool)
