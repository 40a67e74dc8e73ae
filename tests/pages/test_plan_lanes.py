"""One step in time on the Plan page: the lanes, the words beside them, and why there are none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from lora_backend.config.schema import TrainingConfig
from lora_backend.i18n import use_language
from lora_backend.planning.planner import Planner, with_changes
from lora_backend.planning.targets import of_words
from lora_backend.planning.timeline import step_timeline
from lora_backend.views.timeline_view import timeline_table, timeline_words
from pages.parts.plan.lanes import MOST_TURNS, lanes
from tests.pages.plan_page import profile_of, show, texts

pytestmark = pytest.mark.usefixtures("model")
CARDS = "RTX-3060,RTX-3060-12G"


def test_time_is_a_second_view_of_the_same_plan_and_the_address_keeps_it(model: Path) -> None:
    at = show(model=str(model), gpus=CARDS, force_balance="true", lang="en")
    assert at.get("plotly_chart")[0].key == "strip"
    at.session_state["plan-view"] = "time"
    at.run()
    at = show(model=str(model), gpus=CARDS, force_balance="true", lang="en", view="time")
    assert not at.exception
    assert "strip" not in [chart.key for chart in at.get("plotly_chart")]
    assert any("working" in alt for alt in alts(at))
    shown = texts(at)
    assert "This is an estimate: one step takes" in shown
    assert "while one computes, the others wait" in shown
    assert any("Show as a table" in expander.label for expander in at.expander)


def test_cards_without_rates_have_no_lanes_and_say_why(model: Path) -> None:
    at = show(model=str(model), gpus="24,12", lang="en", view="time")
    assert not any("working" in alt for alt in alts(at))
    assert any("have no rates" in box.value for box in at.info)


def alts(at: AppTest) -> list[str]:
    """What the charts of our own say to who cannot see them."""
    said = [json.loads(one.proto.json) for one in at.get("bidi_component") if one.proto.json]
    return [str(data["alt"]) for data in said if "alt" in data]


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_words_table_and_picture_say_the_same_share(lang: str) -> None:
    config = with_changes(TrainingConfig(model_name="any"), force_balance=True)
    planner = Planner(profile_of, of_words("RTX-4090,RTX-3060"))
    plan = planner.plan(config)
    timeline = step_timeline(plan, config)
    assert timeline is not None
    with use_language(lang):
        said = [message.text() for message in timeline_words(timeline)]
        rows = list(timeline_table(timeline).lines())[1:]
        figure = lanes(timeline, plan, "light")
    for sentence, row, lane in zip(said, rows, timeline.lanes, strict=True):
        percent = f"{100 * timeline.share(lane, 'forward', 'backward'):.0f}"
        assert row[1] == f"{percent}%"
        assert percent in sentence
        assert any(percent in note.text for note in figure.layout.annotations)
    shares = sum(timeline.share(lane, "forward", "backward", "transfer") for lane in timeline.lanes)
    assert shares == pytest.approx(1)


def test_of_a_step_of_many_passes_the_last_is_drawn() -> None:
    config = with_changes(TrainingConfig(model_name="any", batch_size=1), target_batch_size=2 * MOST_TURNS)
    plan = Planner(profile_of, of_words("RTX-4090")).plan(config)
    timeline = step_timeline(plan, config)
    assert timeline is not None
    assert timeline.num_turns == 2 * MOST_TURNS
    with use_language("en"):
        bars = {bar.name: bar for bar in lanes(timeline, plan, "dark").data}
    assert set(bars) == {"forward", "backward"}
    assert all(len(bar.x) == 1 for bar in bars.values())
    assert bars["forward"].base[0] == pytest.approx(0)
