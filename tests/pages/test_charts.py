"""What every chart here has in common: colours that can be seen, lines that are told apart without them, traces with a name."""

from __future__ import annotations

import tomllib
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from lora_backend.runs.history.curve_marks import Marks
from lora_backend.runs.record.curves import Column
from lora_backend.views.curve_view import Look
from pages.parts.widgets.charts import DASHES, KEYS, SEVERAL, SYMBOLS, compared_chart, figure_chart, loss_chart

THEME = tomllib.loads((Path(__file__).parents[2] / ".streamlit/config.toml").read_text("utf-8"))["theme"]
# Linear light of each kind of eye that lacks a cone, by Viénot, Brettel and Mollon (1999).
EYES = {
    "all cones": np.eye(3),
    "no long": np.array([[0.11238, 0.88762, 0], [0.11238, 0.88762, 0], [0.00401, -0.00401, 1]]),
    "no middle": np.array([[0.29275, 0.70725, 0], [0.29275, 0.70725, 0], [-0.02234, 0.02234, 1]]),
}

OKLAB = (
    np.array([[0.41222, 0.53633, 0.05145], [0.2119, 0.6807, 0.1074], [0.0883, 0.28172, 0.62998]]),
    np.array([[0.21045, 0.79362, -0.00407], [1.978, -2.42859, 0.45059], [0.0259, 0.78277, -0.80868]]),
)
"""Linear light to a space in which distances are what is seen, by Ottosson (2020)."""


def light(color: str) -> Column:
    parts = np.array([int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)])
    return np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)


def luminance(color: str) -> float:
    return float(light(color) @ [0.2126, 0.7152, 0.0722])


def curve(num_points: int) -> dict[str, Column]:
    step = np.arange(1.0, num_points + 1)
    rest = {name: np.ones(num_points) for name in ("learning_rate", "tokens_per_s")}
    return {"step": step, "loss": 3 / step, "eval_loss": 4 / step, **rest, "time": step}


@pytest.mark.parametrize("color", SEVERAL)
def test_a_line_stands_out_from_a_light_page_and_from_a_dark_one(color: str) -> None:
    for theme in ("light", "dark"):
        brighter, darker = sorted((luminance(color), luminance(THEME[theme]["backgroundColor"])), reverse=True)
        assert (brighter + 0.05) / (darker + 0.05) >= 3, theme


@pytest.mark.parametrize("eye", EYES)
def test_the_colours_of_up_to_four_runs_differ_for_every_eye(eye: str) -> None:
    seen = [OKLAB[1] @ np.cbrt(OKLAB[0] @ np.clip(EYES[eye] @ light(color), 0, 1)) for color in SEVERAL[:4]]
    assert min(np.linalg.norm(one - other) for one, other in combinations(seen, 2)) > 0.08


def test_no_run_is_known_by_its_colour_alone() -> None:
    assert [len(set(kinds)) for kinds in (SEVERAL, DASHES, KEYS, SYMBOLS)] == [8] * 4
    figure = compared_chart([(name, curve(40)) for name in "abc"], "loss", "Loss")
    named = [trace for trace in figure.data if trace.showlegend]
    assert [trace.name for trace in named] == ["a", "b", "c"]
    assert [trace.line.dash for trace in named] == list(DASHES[:3])


def test_a_curve_is_smoothed_as_asked_and_the_raw_one_stays_behind_it() -> None:
    raw, smoothed, evaluated = loss_chart(curve(100), look=Look(smoothing=0.2)).data
    assert smoothed.name == "Loss, smoothed over 20 points"
    assert raw.opacity < smoothed.opacity
    assert evaluated.name == "Evaluation loss"
    assert [trace.name for trace in loss_chart(curve(100), look=Look(smoothing=0)).data] == ["Loss", "Evaluation loss"]


def test_traces_are_known_by_what_they_are_whichever_come_and_go() -> None:
    few = [trace.uid for trace in loss_chart(curve(10)).data]
    many = [trace.uid for trace in loss_chart(curve(100), Marks([10], [20], [20])).data]
    assert few == ["loss", "eval_loss"]
    assert set(few) < set(many)
    assert len(set(many)) == len(many)


def test_marks_move_with_what_the_curve_runs_over() -> None:
    figure = loss_chart(curve(1001), Marks([501], [601], [501]), Look(over="time"))
    assert [trace.name for trace in figure.data][-3:] == ["Checkpoint", "Ended", "Resumed"]
    assert [shape.x0 for shape in figure.layout.shapes] == pytest.approx([500 / 60, 10, 500 / 60])
    assert figure.layout.xaxis.title.text == "Training time (min)"


def test_the_loss_alone_becomes_logarithmic() -> None:
    look = Look(is_log=True)
    assert loss_chart(curve(100), look=look).layout.yaxis.type == "log"
    assert (
        figure_chart(curve(100), "learning_rate", "Learning rate", SEVERAL[3], look=look).layout.yaxis.type == "linear"
    )


def test_a_zoom_outlives_points_and_no_other_axis() -> None:
    shown = [(50, Look()), (60, Look()), (60, Look(over="time"))]
    first, later, over_time = (loss_chart(curve(count), look=look).layout.xaxis.uirevision for count, look in shown)
    assert first == later != over_time


def test_a_single_line_is_named_by_the_chart_s_title_and_its_rate_as_a_config_has_it() -> None:
    figure = figure_chart(curve(30), "learning_rate", "Learning rate", SEVERAL[3])
    assert (figure.layout.title.text, figure.layout.showlegend) == ("Learning rate", False)
    assert figure.layout.yaxis.tickformat == "~e"
