"""How a loss went: told rightly of curves of many kinds, however few their points and however large their noise."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from lora_backend.runs.history import loss_health
from lora_backend.runs.history.alerts import health_message
from lora_backend.runs.history.loss_health import LossHealth, Point, health_of, judge_loss, read_points
from lora_backend.runs.history.outcome import outcome_of
from lora_backend.runs.history.run_table import History, read_row
from lora_backend.runs.record.curves import Column
from lora_backend.runs.record.run_store import RunStore
from lora_backend.views.state_view import state_message
from tests.run_files import add_point, end_run, make_run, set_attempt

Curve = Sequence[float] | Column


def judged(
    losses: Curve, *, every: int = 1, norm: float | None = 1.0, vocabulary_size: int | None = None
) -> LossHealth:
    steps = [1, *(every * number for number in range(1, len(losses)))] if every > 1 else range(1, len(losses) + 1)
    found = [Point(step, float(loss), norm) for step, loss in zip(steps, losses, strict=True)]
    return judge_loss(found, lambda: vocabulary_size)


FALLING = 2 * np.exp(-np.arange(200) / 60) + 0.3

ORDINARY: dict[str, Curve] = {
    "one point": [2.1],
    "two points": [2.1, 1.9],
    "three points that fall": [2.1, 1.5, 1.2],
    "a step up after the first": [2.1, 3.0],
    "falls": FALLING,
    "one spike that returns": [*FALLING[:100], 14.0, *FALLING[101:]],
    "a spike at the end": [*FALLING, 6.0],
    "oscillates and returns": 2 + 1.5 * np.sin(np.arange(121) * math.pi / 10),
    "begins low and rises a bit": np.linspace(0.1, 0.35, 60),
    "begins at 0 and rises a bit": np.linspace(0, 0.3, 60),
    "stands still where it was learned": [1.2] * 50,
    "is learned by heart": [1.2, *([1e-4] * 50)],
    "warms up: nothing moves at first": [2.3] * 20 + list(2.3 * np.exp(-np.arange(60) / 30)),
}


@pytest.mark.parametrize("curve", ORDINARY.values(), ids=ORDINARY)
def test_an_ordinary_curve_is_not_complained_of(curve: Curve) -> None:
    assert judged(curve, vocabulary_size=49_152).code == "ok"


@pytest.mark.parametrize("sigma", [0.1, 0.3, 0.6])
@pytest.mark.parametrize("count", [8, 30, 200])
def test_batches_that_differ_much_are_no_divergence_though_the_first_was_easy(sigma: float, count: int) -> None:
    """The first batch is as easy as one in six; the level of the rest falls slowly."""
    draw = np.random.default_rng(count)
    wrong = 0
    for _ in range(100):
        losses = 1.5 * np.exp(draw.normal(0, sigma, count)) * np.linspace(1, 0.8, count)
        losses[0] = 1.5 * math.exp(-sigma)
        wrong += judged(losses).is_bad
    assert wrong <= 1


DIVERGED: dict[str, tuple[Curve, int]] = {
    "two points": ([2.1, 30.0], 1),
    "three points of thirty steps": ([2.13, 25.0, 19.2], 10),
    "at step 2": ([2.13, 30.0, 24.0, 22.0, 26.0, 19.2], 1),
    "at step 3": ([2.13, 2.1, 30.0, *np.linspace(28, 19.2, 27)], 1),
    "wildly": ([2.1, 30.0, 13.0, 80.0, 14.0, 55.0, 15.0, 70.0], 1),
    "at the end of many": ([*FALLING, *([12.0] * 5)], 1),
    "steadily": (np.linspace(1.2, 3.6, 200), 1),
    "as far as a low start allows": ([0.05, 0.05, 4.0, 5.0, 5.0], 1),
}


@pytest.mark.parametrize(("curve", "every"), DIVERGED.values(), ids=DIVERGED)
def test_a_loss_that_ends_far_above_its_start_has_diverged(curve: Curve, every: int) -> None:
    found = judged(curve, every=every)
    assert found.code == "diverged"
    assert found.reference == curve[0]
    assert found.ratio is not None
    assert found.ratio > 2


def test_it_says_how_many_times_its_start_it_is_and_since_when() -> None:
    found = judged([2.13, 2.1, 30.0, 19.2])
    assert (found.loss, found.step) == (19.2, 3)
    assert found.to_json() == {"code": "diverged", "loss": 19.2, "reference": 2.13, "ratio": 19.2 / 2.13, "step": 3}
    assert state_message("finished", found).text("en") == "Finished, loss 9 × its start"
    assert state_message("running", found).text("en") == "Running, loss 9 × its start"
    assert state_message("failed", found).text("en") == "Failed", "it has a cause of its own"
    assert "since step 3" in health_message(found).text("en")


def test_a_loss_that_undoes_what_was_learned_rose_though_it_ends_below_its_start() -> None:
    found = judged([*FALLING, *np.linspace(0.3, 2.0, 30)])
    assert found.code == "rose"
    assert 190 < (found.step or 0) < 206
    assert "loss 5.1 × its lowest" in state_message("finished", found).text("en")


@pytest.mark.parametrize("count", [1, 2, 3, 30])
def test_a_run_without_a_gradient_is_dead(count: int) -> None:
    first = [Point(1, 2.1, 3.0)] if count > 1 else []
    found = judge_loss([*first, *(Point(step, 3.4012, 0.0) for step in range(2, count + 2))])
    assert (found.code, found.loss, found.grad_norm) == ("dead", 3.4012, 0.0)
    assert state_message("finished", found).text("en") == "Finished, dead: it is not learning"


def test_a_loss_that_stands_still_at_that_of_guessing_is_dead_and_one_elsewhere_is_not() -> None:
    guessing = math.log(30)
    found = judged([3.2, *([guessing + 1e-4] * 9)], vocabulary_size=30, norm=1e-3)
    assert (found.code, found.vocabulary_size) == ("dead", 30)
    assert "guessing among 30 tokens" in health_message(found).text("en")
    assert judged([3.2, *([guessing + 1e-4] * 9)], vocabulary_size=31).code == "ok"
    assert judged([3.2, *([guessing + 1e-4] * 9)]).code == "ok", "the size is not known"
    near = guessing + np.random.default_rng(0).normal(0, 0.02, 40)
    assert judged(near, vocabulary_size=30).code == "ok", "a model that was never trained begins there"


def test_a_gradient_that_is_no_number_at_most_of_the_last_points_is_dead_and_at_some_is_not() -> None:
    """What the loss does then is chance, and it may be near its start: only the gradient tells."""

    def ended(nulls: int) -> LossHealth:
        norms = [*[1.0] * 20, *[math.nan] * nulls, *[4e12] * (10 - nulls)]
        return judge_loss([Point(step, 3.4 + step % 3 / 30, norm) for step, norm in enumerate(norms, 1)])

    assert (ended(6).code, ended(6).overflown, ended(10).code) == ("dead", 6, "dead")
    assert "The gradient was NaN or infinite at 6 of the last 10 points" in health_message(ended(6)).text("en")
    assert ended(5).code == "ok", "fp16's scaler looks for its scale"
    assert judge_loss([Point(step, 3.4 - step / 100, None) for step in range(30)]).code == "ok", "none was logged"


def test_a_gradient_that_was_no_number_is_read_as_such(tmp_path: Path) -> None:
    row = {"epoch": 0.5, "loss": 3.4, "learning_rate": 0.1, "grad_norm": None}
    (tmp_path / "metrics.jsonl").write_text(
        "".join(json.dumps({"format": 1, "step": step} | row) + "\n" for step in range(12))
    )
    assert judge_loss(read_points(tmp_path / "metrics.jsonl")).overflown == 10


def test_nothing_to_learn_is_dead_from_the_first_point_and_all_learned_is_not() -> None:
    assert judge_loss([Point(step, 0.0, 0.0) for step in (1, 2, 3)]).code == "dead", "no token counts"
    assert judge_loss([Point(1, 2.0, 1.0), *(Point(step, 0.0, 0.0) for step in (2, 3, 4))]).code == "ok"
    assert judge_loss([]).code == "unknown"


# ------------------------------------------------------------------------------------------ from the file


def made(workspace: Path, losses: Sequence[float | None], state: str = "finished") -> RunStore:
    run = make_run(workspace / "runs", config={"model_name": "m"}, config_text="", argv=None)
    for step, loss in enumerate(losses, 1):
        add_point(run, {"step": step, "epoch": 0.1, "loss": loss, "learning_rate": 1e-4, "grad_norm": 0.5, "time": 1.0})
        add_point(run, {"step": step, "epoch": 0.1, "eval_loss": 9.0, "time": 1.0})
    end_run(run, state)
    return run


def test_row_outcome_and_run_say_the_same(tmp_path: Path) -> None:
    run = made(tmp_path, [2.0, 2.0, None, 30.0, 18.0])
    row = read_row(run)
    assert row is not None
    assert row.health == outcome_of(run).health == health_of(run)
    assert row.health.ratio == 9
    assert json.loads(json.dumps(row.to_json()))["health"]["code"] == "diverged"
    assert History(tmp_path / "runs").rows()[0].health == row.health


def test_it_is_judged_again_when_points_come(tmp_path: Path) -> None:
    run = made(tmp_path, [2.0], "stopped")
    assert health_of(run).code == "ok"
    add_point(run, {"step": 2, "loss": 30.0})
    assert health_of(run).code == "diverged"
    run.metrics_jsonl.unlink()
    assert health_of(run).code == "unknown"


def test_the_vocabulary_comes_from_what_was_loaded(tmp_path: Path) -> None:
    run = made(tmp_path, [6.0, *([math.log(500)] * 9)])
    assert health_of(run).code == "ok"
    set_attempt(run, vocab_size=500)
    add_point(run, {"step": 99, "loss": math.log(500), "grad_norm": 0.5})
    assert health_of(run).vocabulary_size == 500


@pytest.mark.parametrize("write", [json.dumps, lambda row: json.dumps(dict(reversed(row.items())))])
def test_points_are_read_alike_in_whatever_form(write: Callable[[dict[str, float]], str], tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    rows = [{"step": step, "loss": 2.0 / step, "grad_norm": 1e-12} for step in (1, 2, 3)]
    file.write_text("".join(write(row) + "\n" for row in rows) + '{"step": 4, "loss": 12')
    assert read_points(file) == [Point(1, 2.0, 1e-12), Point(2, 1.0, 1e-12), Point(3, 2 / 3, 1e-12)]


def test_a_gradient_that_is_no_number_takes_no_loss_away_and_a_loss_that_is_none_is_left_out(tmp_path: Path) -> None:
    run = made(tmp_path, [2.0, None, 1.5])
    add_point(run, {"step": 4, "epoch": 1.0, "loss": 30.0, "learning_rate": 1e-4, "grad_norm": None, "time": 1.0})
    found = read_points(run.metrics_jsonl)
    assert [tuple(point) for point in found[:2]] == [(1, 2.0, 0.5), (3, 1.5, 0.5)]
    assert found[2][:2] == (4, 30.0)
    assert math.isnan(found[2].grad_norm or 0.0)


def test_of_a_long_file_the_ends_and_some_blocks_between_are_read(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    with file.open("w") as stream:
        for step in range(1, 20_001):
            stream.write(json.dumps({"step": step, "loss": 2.0 if step < 19_990 else 20.0, "grad_norm": 1.0}) + "\n")
    found = read_points(file, loss_health.GLANCE_BYTES)
    steps = [point.step for point in found]
    assert (steps[0], steps[-1]) == (1, 20_000)
    assert steps == sorted(set(steps))
    assert 100 < len(steps) < 500
    assert any(8_000 < step < 12_000 for step in steps)
    assert judge_loss(found).code == "diverged"
    assert len(read_points(file)) > 10 * len(steps)
    for size_bytes in (loss_health.GLANCE_BYTES - 1, loss_health.GLANCE_BYTES + 1, 2 * loss_health.GLANCE_BYTES):
        small = file.with_name("small.jsonl")
        small.write_bytes(file.read_bytes()[:size_bytes])
        steps = [point.step for point in read_points(small, loss_health.GLANCE_BYTES)]
        assert steps == sorted(set(steps)), "no line is read twice"
        assert (len(steps) == small.read_text().count("\n")) == (size_bytes < loss_health.GLANCE_BYTES)


def test_of_a_loss_that_went_wrong_the_step_is_told_exactly_however_long_its_file(tmp_path: Path) -> None:
    run = make_run(tmp_path, config={"model_name": "m"}, config_text="", argv=None)
    lines = [{"step": step, "loss": 2.0 if step < 777 else 30.0, "grad_norm": 1.0} for step in range(1, 2_001)]
    run.metrics_jsonl.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert run.metrics_jsonl.stat().st_size > loss_health.GLANCE_BYTES
    assert health_of(run).step == 777
