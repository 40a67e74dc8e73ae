"""The charts of a run's page: what the reader chooses for them, and where that stays."""

from __future__ import annotations

import math

import pytest

from lora_backend.installation import this_installation
from lora_backend.runs.record.run_store import RunStore
from tests.pages.screens import charts, show
from tests.run_files import add_point, end_run, make_run, set_status

pytestmark = pytest.mark.usefixtures("workspace")
WORDS = {"over", "smoothing", "log"}


def made(name: str) -> RunStore:
    runs = this_installation().runs
    run = make_run(runs, path=runs / name, config={"model_name": "m"}, config_text="", argv=["true"])
    for step in range(1, 41):
        add_point(
            run, {"step": step, "loss": 2 / step, "tokens_per_s": 100.0, "learning_rate": 1e-4, "time": 2.0 * step}
        )
    set_status(run, state="running", total_steps=40, step=40)
    end_run(run, "stopped")
    return run


def test_each_run_keeps_what_was_chosen_for_its_charts() -> None:
    one, other = made("one"), made("an__other")
    at = show("runs", run=one.id)
    loss, _, _ = charts(at)
    assert [trace["name"] for trace in loss["data"]] == ["Loss", "Loss, smoothed over 3 points", "Ended"]
    assert loss["layout"]["xaxis"]["title"]["text"] == "Step"
    at.button_group(key="curves_over-one").set_value("tokens").run()
    at.slider(key="curves_smoothing-one").set_value(0).run()
    at.toggle(key="curves_log-one").set_value(True).run()
    assert not at.exception
    loss, rate, _ = charts(at)
    assert [trace["name"] for trace in loss["data"]] == ["Loss", "Ended"]
    assert loss["layout"]["xaxis"]["title"]["text"] == "Tokens trained on"
    assert (loss["layout"]["yaxis"]["type"], rate["layout"]["yaxis"]["type"]) == ("log", "linear")
    assert rate["layout"]["title"]["text"] == "Learning rate"
    assert math.isclose(loss["layout"]["shapes"][0]["x0"], 39 * 2 * 100), "the mark moved along"

    assert {word: at.query_params[word] for word in WORDS} == {"over": "tokens", "smoothing": "0", "log": "1"}

    for word in WORDS:
        del at.query_params[word]
    at.query_params["run"] = other.id
    at.run()
    assert charts(at)[0]["layout"]["yaxis"]["type"] == "linear"
    assert not WORDS & set(at.query_params)
    at.query_params["run"] = one.id
    at.run()
    assert charts(at)[0]["layout"]["yaxis"]["type"] == "log"


def test_an_address_brings_how_the_charts_were_seen() -> None:
    at = show("runs", run=made("one").id, over="time", smoothing="20", log="1")
    loss = charts(at)[0]
    assert loss["data"][1]["name"] == "Loss, smoothed over 8 points"
    assert (loss["layout"]["xaxis"]["title"]["text"], loss["layout"]["yaxis"]["type"]) == ("Training time (s)", "log")


def test_a_run_that_waits_for_its_first_step_has_no_chart_and_nothing_to_choose() -> None:
    run = make_run(this_installation().runs, config={"model_name": "m"}, config_text="", argv=["true"])
    end_run(run, "stopped")
    at = show("runs", run=run.id)
    assert not charts(at)
    assert not at.slider
    assert any("ended before its first step" in info.value for info in at.info)
