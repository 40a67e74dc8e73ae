"""Axes of curves that stay, marks that lie on them, and all points as a file."""

from __future__ import annotations

import csv
import io
from itertools import pairwise

import numpy as np
import pytest

from lora_backend.runs.record.curves import Column
from lora_backend.views.curve_view import (
    Look,
    height_of,
    log_ticks,
    look_of,
    place_on_curve,
    points_csv,
    round_end,
    scale_of,
    words_of,
)


def run_of(num_points: int, seconds: float = 2.0) -> dict[str, Column]:
    step = np.arange(1.0, num_points + 1)
    return {"step": step, "loss": 3 / step, "time": 100 + seconds * step, "tokens_per_s": np.full(num_points, 10.0)}


def test_an_axis_changes_its_end_a_dozen_times_while_a_thousand_points_come() -> None:
    ends = [scale_of([run_of(count)], "step", 1000).end for count in range(1, 1001)]
    assert sum(before != after for before, after in pairwise(ends)) < 35
    assert all(end is not None and count <= end <= max(1.7 * count, 3) for count, end in enumerate(ends, 1))
    assert ends[-1] == 1000


@pytest.mark.parametrize(("last", "total", "end"), [(70, 73, 73), (20, 5000, 20), (61, None, 80), (80, 75, 80)])
def test_over_steps_an_axis_ends_where_the_training_does_once_that_is_near(
    last: int, total: int | None, end: float
) -> None:
    assert scale_of([run_of(last)], "step", total).end == end


@pytest.mark.parametrize(
    ("seconds", "title", "end"),
    [(1.0, "Training time (s)", 100), (5.0, "Training time (min)", 10), (100.0, "Training time (h)", 3)],
)
def test_a_long_training_is_shown_in_minutes_or_hours(seconds: float, title: str, end: float) -> None:
    scale = scale_of([run_of(101, seconds)], "time")
    assert (scale.title, scale.end) == (title, end)


def test_the_longest_of_several_runs_sets_the_axis() -> None:
    assert scale_of([run_of(10), run_of(60), {}], "step").end == 60
    assert scale_of([{}], "step").end is None


@pytest.mark.parametrize(("value", "end"), [(1, 1), (1.01, 1.2), (0.00011, 0.00012), (2.2, 2.5), (9.9, 10), (8e9, 8e9)])
def test_round_ends(value: float, end: float) -> None:
    assert round_end(value) == pytest.approx(end)


def test_nothing_above_nothing_is_no_end() -> None:
    assert [round_end(value) for value in (0.0, -1.0, float("nan"), float("inf"))] == [None] * 4
    assert height_of(np.array([])) == []
    assert height_of(np.array([0.0, 0.0])) == [0.0]
    assert height_of(np.array([0.0, -1.0]), is_log=True) == []


def test_a_logarithmic_axis_ends_at_round_figures_and_names_1_2_and_5() -> None:
    low, high = height_of(np.array([0.0, 0.33, 2.2]), is_log=True)
    assert (low, high) == pytest.approx((0.3, 2.5))
    assert [tick for tick in log_ticks(low, high) if low <= tick <= high] == pytest.approx([0.5, 1, 2])
    assert [tick for tick in log_ticks(1e-3, 100) if 1e-3 <= tick <= 100] == pytest.approx(
        [1e-3, 0.01, 0.1, 1, 10, 100]
    )


def test_a_mark_lies_where_its_step_is_over_time_and_tokens() -> None:
    columns = run_of(10)
    assert place_on_curve(columns, [4], "step").tolist() == [4]
    assert place_on_curve(columns, [1, 4], "time").tolist() == [0, 6]
    assert place_on_curve(columns, [4], "tokens").tolist() == [60]
    assert place_on_curve({"step": np.array([]), "time": np.array([])}, [4], "time").tolist() == []


def test_the_file_has_every_point_and_no_column_without_any() -> None:
    columns = run_of(2500) | {"eval_loss": np.full(2500, np.nan), "grad_norm": np.full(2500, np.nan)}
    columns["eval_loss"][1] = 0.25
    rows = list(csv.DictReader(io.StringIO(points_csv(columns))))
    assert len(rows) == 2500
    assert list(rows[0]) == ["step", "loss", "eval_loss", "tokens_per_s", "time"]
    assert (rows[1]["step"], rows[1]["loss"], rows[1]["eval_loss"], rows[0]["eval_loss"]) == ("2", "1.5", "0.25", "")


@pytest.mark.parametrize("look", [Look(), Look("tokens", 0.0, True), Look("time", 0.5), Look(smoothing=0.01)])
def test_an_address_carries_a_look(look: Look) -> None:
    words = {word: said for word, said in words_of(look).items() if said is not None}
    assert look_of(words) == look
    assert words_of(Look()) == dict.fromkeys(("over", "smoothing", "log"))


@pytest.mark.parametrize("percent", ["51", "-1", "x", "", "7.5", "9" * 5000, "٣"])
def test_an_address_that_says_it_wrongly_is_as_one_that_does_not(percent: str) -> None:
    assert look_of({"over": "moons", "smoothing": percent, "log": "yes"}) == Look()
