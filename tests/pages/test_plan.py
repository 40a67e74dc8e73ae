"""The plan page: what it says when it fits, when it does not, and when it was asked something that has no answer."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from lora_backend.config.config_text import parse_config
from lora_backend.config.drafts import new_draft
from lora_backend.config.schema import TrainingConfig
from lora_backend.errors import WorkerError
from lora_backend.i18n import use_language
from lora_backend.installation import this_installation
from lora_backend.planning.advice import advise
from lora_backend.planning.cost.formula import EXPECTED_ERROR
from lora_backend.planning.cost.memory import Memory
from lora_backend.planning.cost.profile import Profile
from lora_backend.planning.limits import largest_batch, longest_row
from lora_backend.planning.plan import Plan
from lora_backend.planning.planner import Planner, with_changes
from lora_backend.planning.targets import GIB, of_words
from lora_backend.views.plan_view import fits_message
from lora_backend.views.strip_view import IN_DOUBT, cells_of
from pages.parts.plan.export import map_texts
from pages.parts.plan.question import Question, placement_of, placement_text
from pages.parts.plan.strip import room, strip
from pages.parts.shell.markdown import Markdown, unmarked
from tests.pages.plan_page import ROOT, TIGHT, answer, profile_of, show, texts
from tests.tiny import chats, save_tokenizer, write_rows

pytestmark = pytest.mark.usefixtures("model")


def test_without_a_model_it_says_what_it_does_and_offers_examples() -> None:
    at = show()
    assert "Choose a model" in texts(at)
    assert len(at.get("page_link")) >= 3


def test_a_plan_that_fits_says_so_first_with_what_it_rests_on(model: Path) -> None:
    at = show(model=str(model), gpus="24,12")
    assert at.success[0].value.startswith("**It fits")
    assert "Traced from the model's own training step" in texts(at)
    assert "CUDA context" in texts(at)
    assert at.get("plotly_chart")[0].key == "strip"


def test_where_all_fits_no_remedy_is_shown_and_none_is_planned(model: Path) -> None:
    at = show(model=str(model), gpus="24,12", lang="en")
    assert not [button.key for button in at.button if str(button.key).startswith("apply-")]
    assert "fits with this" not in texts(at)
    assert "More ways to save memory" not in [expander.label for expander in at.expander]


def test_a_tight_plan_is_amber_and_says_what_is_left_against_what_it_may_need(model: Path) -> None:
    at = show(model=str(model), gpus=TIGHT, lang="en")
    assert not at.success
    assert not at.error
    assert at.warning[0].value.startswith("**Tight: ")
    assert "more than planned" in at.warning[0].value


def test_a_device_that_is_tight_is_marked_in_the_strip_and_in_the_tables(model: Path) -> None:
    plan = Planner(lambda config: profile_of(config), of_words(TIGHT)).plan(TrainingConfig(model_name="any"))
    (device,) = plan.devices
    with use_language("en"):
        assert room(device).startswith("⚠ tight: ")
        assert str(fits_message(plan)) == "⚠ tight"
        (above,) = [note for note in strip(plan, (), "dark").layout.annotations if "tight" in note.text]
    assert above.font.color == IN_DOUBT["tight"]["dark"]


def test_one_gpu_that_would_be_enough_is_said_to_be_faster(model: Path) -> None:
    at = show(model=str(model), gpus="2xRTX-4090")
    assert any("be faster" in box.value for box in at.info)


def test_a_split_that_is_needed_says_that_its_gpus_work_one_after_the_other(model: Path) -> None:
    at = show(model=str(model), gpus="6,6,6", lang="en")
    (said,) = [caption.value for caption in at.caption if "one after another" in caption.value]
    assert said == "The layers are spread over 3 GPUs, which work one after another: a split adds memory, not speed."
    assert "one after another" not in texts(show(model=str(model), gpus="24", lang="en"))


def test_one_click_takes_one_gpu_where_that_is_enough_and_the_address_says_so(model: Path) -> None:
    at = show(model=str(model), gpus="24,24", lang="en")
    assert "placement" not in at.query_params
    at.button(key="use_one_gpu").click().run()
    assert not at.exception, "one GPU has nothing to draw"
    assert at.query_params["goal"] in ("fewest", ["fewest"])
    assert at.success
    assert "· One GPU ·" in f"· {at.success[0].value.partition(chr(10))[2]} ·".replace("\n", "")
    assert "use_one_gpu" not in [button.key for button in at.button]


def test_one_gpu_is_not_offered_where_a_split_is_needed_or_asked_for(model: Path) -> None:
    for query in ({"gpus": "6,6,6"}, {"gpus": "24,24", "force_balance": "true"}, {"gpus": "24"}):
        assert "use_one_gpu" not in [button.key for button in show(model=str(model), **query).button]


def test_a_plan_that_does_not_fit_names_gpu_and_shortage_and_the_best_remedy_is_one_click(model: Path) -> None:
    at = show(model=str(model), gpus="10", batch_size="16", lang="en")
    assert "GiB over its free memory" in at.error[0].value
    (key,) = [button.key for button in at.button if str(button.key).startswith("apply-")]
    config = TrainingConfig(model_name="m", batch_size=16)
    planner = Planner(profile_of, of_words("10"))
    best = next(remedy for remedy in advise(planner, config, planner.plan(config)) if remedy.is_enough)
    assert key == f"apply-best-{best.code}"
    assert best.change["gradient_checkpointing"] is True
    assert "fits with this" in texts(at)
    at.button(key=key).click().run()
    assert at.query_params["gradient_checkpointing"] in ("true", ["true"])
    assert at.success


def test_other_remedies_are_planned_where_they_are_asked_for_with_what_they_save(model: Path) -> None:
    at = show(model=str(model), gpus="4,3", batch_size="16", lang="en")
    assert "Add one more GPU" not in texts(at)
    at.session_state["plan_more_remedies"] = True
    at.run()
    shown = texts(at)
    planner = Planner(profile_of, of_words("4,3"))
    config = TrainingConfig(model_name="m", batch_size=16)
    before, after = planner.plan(config), planner.plan(with_changes(config, gradient_checkpointing=True))
    saved = sum(device.breakdown.total for device in before.devices) - sum(
        device.breakdown.total for device in after.devices
    )
    assert "**Turn on gradient checkpointing**" in shown
    assert "`gradient_checkpointing: true`" in shown
    assert (
        f"busiest device {100 * before.bottleneck_utilisation:.0f}% → {100 * after.bottleneck_utilisation:.0f}%"
        in shown
    )
    assert f"saves {saved / GIB:.1f} GiB in total · about 45% slower · activations are computed twice" in shown
    assert re.search(r"\*\*Add one more GPU\*\*", shown)
    assert re.search(r"takes [0-9.]+ GiB off the others", shown)


def test_after_a_bad_move_the_best_placement_comes_first_and_remedies_are_counted_from_what_is_shown(
    model: Path,
) -> None:
    at = show(model=str(model), gpus="6,6,6", placement="0x10", lang="en")
    assert at.error
    at.session_state["plan_more_remedies"] = True
    at.run()
    planner = Planner(profile_of, of_words("6,6,6"))
    config = TrainingConfig(model_name="m")
    shown, best = planner.score(config, (0,) * 10), planner.plan(config)
    shares = f"busiest device {100 * shown.bottleneck_utilisation:.0f}% → "
    assert f"{shares}{100 * best.bottleneck_utilisation:.0f}% · the same settings with a new placement" in texts(at)
    after = planner.score(with_changes(config, gradient_checkpointing=True), (0,) * 10)
    assert f"{shares}{100 * after.bottleneck_utilisation:.0f}% · saves" in texts(at)
    at.button(key="apply-best-best_placement").click().run()
    assert "placement" not in at.query_params
    assert at.success


def test_where_the_goal_makes_it_tight_one_click_balances_the_gpus(model: Path) -> None:
    config = TrainingConfig(model_name="m")
    alone = Planner(profile_of, of_words("80")).plan(config).bottleneck.breakdown.total
    two = f"{1.01 * alone / GIB:.2f}"
    at = show(model=str(model), gpus=f"{two},{two}", goal="fewest", max_utilisation="100", lang="en")
    assert at.warning[0].value.startswith("**Tight: ")
    at.button(key="apply-best-balanced").click().run()
    assert not at.exception
    assert "goal" not in at.query_params
    assert at.success


def test_a_torch_process_that_ends_while_remedies_are_traced_leaves_the_plan_and_says_so(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies_at_checkpointing(facts: Mapping[str, Any], config: TrainingConfig) -> Profile:
        if config.gradient_checkpointing:
            raise WorkerError("The process that loads models ended before it answered.")
        return profile_of(config)

    monkeypatch.setattr("pages.parts.plan.work.trace", dies_at_checkpointing)
    at = show(model=str(model), gpus="10", batch_size="16", lang="en")
    assert "GiB over its free memory" in at.error[0].value
    assert any("not known: The process that loads models ended" in box.value for box in at.info)
    assert at.get("plotly_chart")


def test_the_largest_batch_and_the_longest_row_that_fit_are_there_without_a_click(model: Path) -> None:
    at = show(model=str(model), gpus="12", batch_size="2", max_length="256", lang="en")
    planner = Planner(profile_of, of_words("12"))
    config = TrainingConfig(model_name="m", batch_size=2, max_length=256)
    rows, tokens = largest_batch(planner, config).value, longest_row(planner, config).value
    assert rows > 2
    assert tokens > 256
    assert f"**{rows} rows**" in texts(at)
    assert f"**{tokens:,} tokens**" in texts(at)
    at.select_slider(key="plan-max_length").set_value(128).run()
    assert f"**{rows} rows**" not in texts(at), "they are of other settings"


def test_time_and_cost_of_cards_that_are_known_are_there_and_for_gib_alone_why_they_are_not(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = texts(show(model=str(model), gpus="RTX-4090", rows="1000", price="2", currency="EUR", lang="en"))
    assert {"One step", "Whole run", "Cost"} <= set(shown.splitlines())
    assert re.search(r"\*\*[0-9.]+ to [0-9.]+ EUR\*\*", shown)
    monkeypatch.setenv("FLIGHTDECK_GPU_PRICE", "9CNY")
    here = {"model": str(model), "gpus": "RTX-4090", "rows": "1000", "lang": "en"}
    assert re.search(r"\*\*[0-9.]+ to [0-9.]+ CNY\*\*", texts(show(**here)))
    assert re.search(r"\*\*[0-9.]+ to [0-9.]+ EUR\*\*", texts(show(**here, price="2", currency="EUR")))
    monkeypatch.setenv("FLIGHTDECK_GPU_PRICE", "9 yuan")
    assert "`FLIGHTDECK_GPU_PRICE` is" in texts(show(**here))
    monkeypatch.delenv("FLIGHTDECK_GPU_PRICE")
    shown = texts(show(model=str(model), gpus="24", lang="en"))
    assert "name the cards" in shown
    assert "One step" not in shown.splitlines()


def test_the_goal_is_a_choice_with_a_line_of_help_each_and_the_address_keeps_it(model: Path) -> None:
    at = show(model=str(model), gpus="24,24", lang="en")
    goals = at.radio(key="plan-goal")
    assert goals.value == "balance"
    goals.set_value("speed").run()
    assert at.query_params["goal"] in ("speed", ["speed"])
    assert show(model=str(model), gpus="24,24", goal="fewest").radio(key="plan-goal").value == "fewest"


@pytest.mark.parametrize(
    ("words", "said"), [("24;12", "separate GPUs with commas"), ("0", "above 0"), ("3xNoSuchCard", "nearest names")]
)
def test_words_that_name_no_gpus_are_one_sentence(model: Path, words: str, said: str) -> None:
    at = show(model=str(model), gpus=words)
    assert said in at.error[0].value


def test_a_model_that_is_not_there_is_one_sentence() -> None:
    at = show(model="nobody/nothing", gpus="24")
    assert "nobody/nothing" in at.error[0].value
    assert "trace_again_plan" not in [button.key for button in at.button], "another try would say the same"


def test_a_path_outside_the_roots_is_refused_unread() -> None:
    at = show(model="/etc", gpus="24")
    assert "outside" in at.error[0].value


def test_a_worker_that_fails_is_one_sentence(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(facts: Mapping[str, Any], config: TrainingConfig) -> Profile:
        raise WorkerError("The process that loads models ended before it answered. It restarts with the next request.")

    monkeypatch.setattr("pages.parts.plan.work.trace", fails)
    at = show(model=str(model), gpus="24", lang="en")
    assert "ended before it answered" in at.error[0].value
    monkeypatch.setattr("pages.parts.plan.work.trace", answer())
    again = at.button(key="trace_again_plan")
    assert again.label == "Try again"
    assert again.click().run().success


def test_a_cancelled_trace_is_not_asked_for_again_until_the_reader_wants_it(model: Path) -> None:
    from pages.parts.plan import session
    from pages.parts.plan import trace as plan_trace

    script = f"""
import streamlit as st
from pages.parts.plan import session
from pages.parts.plan.trace import _key, trace, offer_again
from lora_backend.config.schema import TrainingConfig
from lora_backend.errors import WorkerError
config = TrainingConfig(model_name="m", precision="bf16")
st.session_state.setdefault("{session.TRACE_DROPPED}", _key({{}}, config))
try:
    trace({{}}, config)
except WorkerError as error:
    st.error(str(error))
    offer_again()
"""
    at = AppTest.from_string(script).run()
    assert "cancelled" in at.error[0].value
    assert at.button(key="trace_again_plan")
    assert not plan_trace._under_way()


def test_figures_of_a_formula_carry_their_expected_error(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pages.parts.plan.work.trace", answer("formula"))
    at = show(model=str(model), gpus="24")
    percent = f"{100 * EXPECTED_ERROR:.0f}%"
    assert f"Weights and adapter are counted; activations come from a formula. Expected within {percent}." in texts(at)
    assert not at.success, "a guess is not green"
    assert at.warning[0].value.startswith("**It fits")
    assert f"it would still fit if they were {percent} too low" in at.warning[0].value


def test_rows_longer_than_the_model_was_made_for_are_warned_of(model: Path) -> None:
    at = show(model=str(model), gpus="80", max_length="4096", gradient_checkpointing="true")
    assert any("2048" in warning.value and "4096" in warning.value for warning in at.warning)


def test_a_negative_batch_is_named_and_planned_for_nobody(model: Path) -> None:
    at = show(model=str(model), gpus="24", batch_size="-3")
    assert "batch_size" in at.error[0].value
    assert not at.success


def test_a_move_shows_its_effect_and_undo_redo_and_reset_go_through_the_states(model: Path) -> None:
    at = show(model=str(model), gpus="6,6,6")
    for key, value in (("move-first", 6), ("move-last", 7)):
        at.number_input(key=key).set_value(value)
    at.selectbox(key="move-onto").set_value(0).run()
    at.button(key="plan-move").click().run()
    placed = at.query_params["placement"]
    assert "placed by hand" in texts(at)
    assert "Effect of the last change" in texts(at)
    assert "parts of the model that move: 2" in texts(at)
    at.button(key="plan-undo").click().run()
    assert "placement" not in at.query_params
    at.button(key="plan-redo").click().run()
    assert at.query_params["placement"] == placed
    at.button(key="plan-reset").click().run()
    assert "placement" not in at.query_params
    assert "placed by hand" not in texts(at)


def test_what_changes_nothing_on_the_gpus_is_no_change(model: Path) -> None:
    at = show(model=str(model), gpus="24", lang="en")
    at.number_input(key="plan-price").set_value(2.0).run()
    assert "Effect of the last change" not in texts(at)
    at.select_slider(key="plan-r").set_value(64).run()
    assert "Effect of the last change" in texts(at)


def test_a_click_right_after_typing_moves_what_was_typed(model: Path) -> None:
    """Both reach the server at once: the button that is clicked was drawn before the field was changed."""
    at = show(model=str(model), gpus="6,6,6")
    for key in ("move-first", "move-last"):
        at.number_input(key=key).set_value(7)
    at.selectbox(key="move-onto").set_value(0).run()
    at.number_input(key="move-first").set_value(6)
    at.button(key="plan-move").click().run()
    assert "parts of the model that move: 2" in texts(at)


def test_a_placement_in_the_address_is_scored_as_it_is(model: Path) -> None:
    at = show(model=str(model), gpus="24,2", placement="0x9.1x1")
    assert "placed by hand" in texts(at)
    assert at.query_params["placement"] == "0x9.1x1"


def test_a_placement_for_another_model_is_refused_in_words(model: Path) -> None:
    at = show(model=str(model), gpus="24,24", placement="0x40.1x40")
    assert any("not for a model of 10 parts on 2 devices" in warning.value for warning in at.warning)


def test_a_draft_is_planned_and_comes_back_with_the_map(model: Path) -> None:
    draft = new_draft(this_installation().drafts, f"# mine\nmodel_name: {model}\nr: 4\nuse_balanced_device_map: true\n")
    at = show(draft=draft.id, gpus="6,5")
    assert at.select_slider(key="plan-r").value == 4
    at.button(key="use_in_config").click().run()
    (made,) = [path for path in this_installation().drafts.iterdir() if path.name != draft.id]
    text = (made / "config.yaml").read_text("utf-8")
    assert text.startswith("# mine")
    values = parse_config(text).values
    assert set(values["device_map"].values()) == {0, 1}
    assert "use_balanced_device_map" not in values


def test_every_tab_shows_itself(model: Path) -> None:
    at = show(model=str(model), gpus="RTX-4090,24", lang="en", rows="1000", price="2", machines="2xA100-80G;nonsense!")
    for tab in ("Components", "Compare machines", "Options on this machine", "Device map"):
        at.session_state["plan_tabs"] = tab
        at.run()
        assert not at.exception, tab
        if tab == "Compare machines":
            table = at.table[0].value
            assert [unmarked_cell(cell) for cell in table["On"]] == [
                "this plan · split across 2 GPUs",
                "2xA100-80G · split across 2 GPUs",
                "nonsense!",
            ]
            assert re.fullmatch(r"[0-9.]+ to [0-9.]+ USD", unmarked_cell(table["Cost"][1]))
            assert any("nonsense" in caption.value and "nearest names" in caption.value for caption in at.caption)
        if tab == "Options on this machine":
            table = at.table[0].value
            assert [unmarked_cell(cell).partition(" ·")[0] for cell in table["On"]] == [
                "one GPU",
                "one GPU, 4-bit weights",
                "split across the GPUs",
                "ddp: the whole model on each GPU",
                "fsdp: a share of the model on each GPU",
                "fsdp, weights in host memory",
                "this computer's CPU",
            ]
            assert re.search(r"[0-9.]+ of 24.0\u00a0GiB", unmarked_cell(table["Peak memory"][0]))
            assert "one micro-batch of 4 rows" in texts(at), "why there is no ddp"
            assert "launch-single" not in [button.key for button in at.button], "these GPUs are not here"
    assert '"model.layers.7"' in at.code[0].value


@pytest.mark.parametrize(("placement", "is_said"), [("1x9.0x1", True), ("0x10", False)])
def test_a_map_that_is_taken_away_says_how_to_load_a_model_that_leaves_its_logits_there(
    model: Path, placement: str, is_said: bool
) -> None:
    at = show(model=str(model), gpus="24,24", placement=placement)
    at.session_state["plan_tabs"] = "Device map"
    at.run()
    assert ("by `getEquipAdaptorModel` with this map" in texts(at)) == is_said


def unmarked_cell(text: object) -> str:
    """A cell of `st.table`, without the escapes of its Markdown."""
    return unmarked(Markdown(text))


def plan_of(words: str) -> Plan:
    config = TrainingConfig(model_name="m")
    return Planner(profile_of, of_words(words)).plan(config)


def test_the_cells_of_a_device_add_up_to_its_planned_bytes() -> None:
    plan = plan_of("6,5,4")
    memory = Memory(plan.profile, plan.workload)
    for device in plan.devices:
        cells = cells_of(plan, device, memory)
        assert sum(cell.size_bytes for cell in cells) == pytest.approx(device.breakdown.total)
        assert [cell.unit for cell in cells if cell.unit is not None] == list(device.units)


def test_the_strip_has_one_cell_a_block_and_each_gpus_own_capacity() -> None:
    plan = plan_of("6,5,4")
    figure = strip(plan, [1], "light")
    (blocks,) = [trace for trace in figure.data if trace.name == "blocks"]
    assert sorted(point[0] for point in blocks.customdata) == list(range(1, 9))
    ends = [shape.x0 for shape in figure.layout.shapes if shape.type == "line"]
    assert ends == [6, 5, 4]
    assert sum("free" in note.text or "over" in note.text for note in figure.layout.annotations) == 3


def test_the_map_says_the_same_in_three_languages() -> None:
    plan = plan_of("6,5,4")
    found = map_texts(plan)
    as_python: dict[str, Any] = {}
    exec(found["py"], as_python)
    assert json.loads(found["json"]) == plan.device_map == as_python["device_map"]
    assert parse_config(found["yaml"]).values["device_map"] == plan.device_map


def test_a_placement_survives_the_address() -> None:
    placed = (0, 0, 1, 1, 1, 0, 2)
    assert placement_of(placement_text(placed), 7, 3) == placed
    assert placement_of(placement_text(placed), 7, 2) is None
    assert placement_of("0x9x", 7, 3) is None
    assert placement_of("0x99999", 7, 3) is None


def test_the_address_wins_over_the_draft_and_nonsense_falls_back() -> None:
    question = Question({"r": "8", "goal": "best", "price": "nan", "quantization": "none"}, {"r": 4, "quantization": "nf4"})  # fmt: skip
    assert (question.value("r"), question.value("quantization")) == (8, None)
    assert (question.value("goal"), question.value("price")) == ("balance", None)


def test_the_plan_page_imports_no_torch(model: Path) -> None:
    script = f"""
import sys
from streamlit.testing.v1 import AppTest
from lora_backend.planning.advice import advise
from tests.planning.formula_profiles import formula_profile
from lora_backend.planning.cost.trace_settings import TraceSettings
import json, pages.parts.plan.work as plan_work
facts = json.load(open({str(model / "config.json")!r}))
plan_work.trace = lambda _, config: formula_profile(facts, config, TraceSettings.of(config, "bf16"))
at = AppTest.from_file("app.py", default_timeout=60).run()
at.switch_page("pages/plan.py")
at.query_params["model"], at.query_params["gpus"] = {str(model)!r}, "24,12"
at.run()
assert any("It fits" in box.value for box in at.warning) and not at.exception
print([name for name in ("torch", "transformers", "peft", "trl", "accelerate", "datasets") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.strip().splitlines()[-1:] == ["[]"], done.stderr


def test_a_draft_counts_its_own_rows_where_the_browser_may_read_them(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A short row takes less time than a full one; a file outside the data roots is not looked at."""
    save_tokenizer(model)
    inside, outside = (tmp_path / name / "rows.jsonl" for name in ("data", "elsewhere"))
    for path in (inside, outside):
        path.parent.mkdir()
        write_rows(path, chats())
    monkeypatch.setenv("FLIGHTDECK_DATA_ROOTS", str(inside.parent))
    shown = []
    for path in (inside, outside):
        draft = new_draft(this_installation().drafts, f"model_name: {model}\ndataset: {path}\n")
        shown.append(texts(show(draft=draft.id, gpus="RTX-4090", lang="en")))
    assert "The time counts the data set's own rows" in shown[0]
    assert "Whole run" in shown[0], "and their number"
    assert "tokens on average, without padding" in shown[0]
    assert ["Mean batch" in text for text in shown] == [True, False]
    assert "The time assumes that every row has 1,024 tokens" in shown[1]
    assert "set the number of data rows on the left" in shown[1]


def test_how_rows_share_a_pass_is_a_control_and_in_the_address(model: Path) -> None:
    at = show(model=str(model), gpus="24", lang="en")
    assert at.selectbox(key="plan-batching").options == ["auto", "flat", "padded", "packed"]
    assert "need an attention mask" not in texts(at)
    at.selectbox(key="plan-batching").set_value("padded").run()
    assert at.query_params["batching"] in ("padded", ["padded"])
    assert "Several rows of unequal length are padded and need an attention mask" in texts(at)
