"""Checkpoints as a list: their steps, losses and files, and where a run's curve is marked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lora_backend.runs.checkpoints.manifest import write_manifest
from lora_backend.runs.history.checkpoint_list import best_of, list_checkpoints, resumed_steps, saved_steps
from lora_backend.runs.history.curve_marks import Marks, marks_of
from lora_backend.runs.record.curves import read_columns
from lora_backend.runs.record.run_store import RunStore
from pages.parts.widgets.charts import loss_chart
from tests.run_files import add_point, add_start, make_run


@pytest.fixture
def run(tmp_path: Path) -> RunStore:
    run = make_run(tmp_path, config={"model_name": "m"}, config_text="", argv=None)
    for step in range(10, 1010, 10):
        add_point(run, {"step": step, "loss": 1000 / step})
        if step % 50 == 0:
            add_point(run, {"step": step, "eval_loss": 500 / step})
    return run


def save(run: RunStore, step: int) -> Path:
    path = run.checkpoints / f"checkpoint-{step}"
    path.mkdir(parents=True)
    (path / "weights").write_bytes(b"w" * step)
    write_manifest(path, step)
    return path


def test_each_has_its_step_size_and_the_losses_there(run: RunStore) -> None:
    save(run, 55)
    path = save(run, 100)
    early, late = list_checkpoints(run, read_columns(run.metrics_jsonl))
    assert (early.step, early.loss, early.eval_loss, early.problems) == (55, 20.0, None, ())
    assert (late.name, late.loss, late.eval_loss) == ("checkpoint-100", 10.0, 5.0)
    assert late.size_bytes == 100 + (path / "manifest.json").stat().st_size
    assert late.saved_at == (path / "manifest.json").stat().st_mtime
    assert json.loads(json.dumps(late.to_json()))["problems"] == []
    before_any = list_checkpoints(run, {})[0]
    assert (before_any.loss, before_any.eval_loss) == (None, None)


def test_what_is_damaged_says_so_and_byte_for_byte_only_when_asked(run: RunStore) -> None:
    (save(run, 10) / "weights").write_bytes(b"v" * 10)
    (save(run, 20) / "weights").unlink()
    (run.checkpoints / "checkpoint-30").mkdir()
    quick = [one.problems for one in list_checkpoints(run, {})]
    assert quick == [(), ("weights: missing",), ("manifest.json: missing",)]
    assert list_checkpoints(run, {})[2].saved_at is None
    assert list_checkpoints(run, {}, hashes=True)[0].problems == ("weights: sha256 differs",)


def test_the_best_is_that_of_the_lowest_evaluation_loss(run: RunStore) -> None:
    columns = read_columns(run.metrics_jsonl)
    save(run, 50)
    assert best_of(run, list_checkpoints(run, columns)) is None, "one alone is not the best of anything"
    save(run, 55)
    save(run, 100)
    best = best_of(run, list_checkpoints(run, columns))
    assert best is not None
    assert (best.checkpoint.step, best.is_the_adapter) == (100, False)


def test_the_best_is_told_by_the_figure_and_the_way_round_that_the_config_names(tmp_path: Path) -> None:
    def best(**config: object) -> tuple[int, str, bool]:
        run = make_run(tmp_path, config={"model_name": "m", **config}, config_text="", argv=None)
        for step, loss, accuracy in ((2, 1.0, 0.5), (4, 3.0, 0.9), (6, 2.0, 0.1)):
            add_point(run, {"step": step, "eval_loss": loss, "eval_token_accuracy": accuracy})
            save(run, step)
        found = best_of(run, list_checkpoints(run, read_columns(run.metrics_jsonl)))
        assert found is not None
        return found.checkpoint.step, found.by.column, found.is_the_adapter

    assert best() == (2, "eval_loss", False)
    assert best(metric_for_best_model="loss", greater_is_better=True) == (4, "eval_loss", False)
    assert best(metric_for_best_model="token_accuracy") == (4, "eval_token_accuracy", False)
    assert best(metric_for_best_model="eval_token_accuracy", greater_is_better=False)[0] == 6
    assert best(load_best_model_at_end=True) == (2, "eval_loss", True)
    assert best(metric_for_best_model=["junk"], greater_is_better="no", load_best_model_at_end=1)[::2] == (2, False)


def test_a_hundred_checkpoints_and_every_resume_are_marked(run: RunStore) -> None:
    for step in range(10, 1010, 10):
        save(run, step)
    for asked in (None, "checkpoint-200", "checkpoint-500", "checkpoint-500", "../x", 7):
        add_start(run, resume_from=asked)
    found = list_checkpoints(run, read_columns(run.metrics_jsonl))
    assert len(found) == 100
    assert saved_steps(run) == [one.step for one in found]
    assert resumed_steps(run) == [200, 500]
    columns = read_columns(run.metrics_jsonl)
    figure = loss_chart(columns, marks_of(run, columns))
    names = [trace.name for trace in figure.data]
    assert names[-2:] == ["Checkpoint", "Resumed"]
    assert figure.data[-1].y.tolist() == [5.0, 2.0], "on the curve"
    assert len(figure.layout.shapes) == 102
    assert [trace.name for trace in loss_chart(read_columns(run.metrics_jsonl)).data][-1] == "Evaluation loss"


def test_marks_without_a_curve_are_not_drawn() -> None:
    assert not loss_chart({}, Marks([10])).data
