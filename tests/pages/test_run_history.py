"""The table of all runs and the comparison of some."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from streamlit import config
from streamlit.testing.v1 import AppTest

from lora_backend.installation import this_installation
from lora_backend.runs.history.replaced_adapters import AdapterBin
from lora_backend.runs.history.trash import Bin
from lora_backend.runs.record.run_labels import read_labels, write_labels
from lora_backend.runs.record.run_store import RunStore, list_runs
from pages.parts.run.table import table_key
from pages.parts.shell import addresses
from tests.pages.screens import charts, show
from tests.run_files import add_point, add_start, end_run, make_run, put_answers
from tests.tiny import make_published

pytestmark = pytest.mark.usefixtures("places")


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WORKSPACE", "HOME"):
        monkeypatch.setenv(f"FLIGHTDECK_{name}", str(tmp_path / name.lower()))


def made(name: str, state: str = "finished", **config: Any) -> RunStore:
    runs = this_installation().runs
    run = make_run(
        runs, config={"model_name": "m", "r": 8, **config}, config_text="", argv=None, path=runs / name, name=name
    )
    add_point(run, {"step": 1, "loss": 2.0, "time": 0.0})
    add_point(run, {"step": 2, "loss": 1.0, "time": 1.0, "tokens_per_s": 9.0})
    end_run(run, state)
    return run


def chosen(at: AppTest, *rows: int) -> AppTest:
    """A click on rows of the table; AppTest has none, so the selection is set as the browser would."""
    at.session_state[table_key(at.dataframe[0].value["ID"])] = {
        "selection": {"rows": list(rows), "columns": [], "cells": []}
    }
    return at.run()


def test_the_table_shows_config_keys_and_figures_of_every_run() -> None:
    made("one", r=16)
    made("two", "failed")
    table = show("runs").dataframe[0].value
    assert table["Name"].tolist() == ["two", "one"]
    assert table["State"].tolist() == ["Failed", "Finished"]
    assert table["r"].tolist() == [8, 16]
    assert table["loss"].tolist() == [1.0, 1.0]
    assert table["Open"].tolist() == ["/runs?run=two", "/runs?run=one"]


@pytest.fixture
def base_path() -> Iterator[None]:
    before = config.get_option("server.baseUrlPath")
    config.set_option("server.baseUrlPath", "/team/fd/")
    yield
    config.set_option("server.baseUrlPath", before)


@pytest.mark.usefixtures("base_path")
def test_the_table_opens_runs_below_the_base_path() -> None:
    made("one")
    assert show("runs").dataframe[0].value["Open"].tolist() == ["/team/fd/runs?run=one"]


def test_words_and_states_filter_the_table_and_the_archive_is_left_out() -> None:
    made("one", dataset="shop.jsonl")
    made("two", "failed")
    write_labels(made("three").path, archived=True)
    at = show("runs")
    assert at.dataframe[0].value["Name"].tolist() == ["two", "one"]
    at.text_input(key=addresses.RUN_FILTER).set_value("shop").run()
    assert at.dataframe[0].value["Name"].tolist() == ["one"]
    at.text_input(key=addresses.RUN_FILTER).set_value("nowhere").run()
    assert "No runs match" in at.info[0].value
    at.text_input(key=addresses.RUN_FILTER).set_value("")
    at.toggle(key=addresses.RUN_ARCHIVED).set_value(True).run()
    assert len(at.dataframe[0].value) == 3


def test_two_runs_are_compared_by_curves_differences_and_outcome() -> None:
    made("one", r=16)
    made("two", seed=7)
    at = show("runs", compare="one,two")
    assert not at.exception
    assert len(charts(at)) == 1
    assert at.title[0].value == "Compare runs"
    differences, outcome = (table.value.set_index("Run") for table in at.table)
    assert differences.index.tolist() == ["Curve", "r", "seed"]
    assert differences.loc["r"].tolist() == ["16", "8"]
    assert outcome.loc["Last loss"].tolist() == ["1", "1"]
    assert "★" not in outcome.to_string(), "there is nothing to choose between"


def test_the_best_of_compared_runs_is_marked_and_a_long_map_is_one_cell() -> None:
    placed = {f"model.layers.{block}": block // 40 for block in range(80)}
    made("one", device_map=placed | {"model.embed_tokens": 0, "lm_head": 1})
    better = made("two")
    add_point(better, {"step": 3, "loss": 0.5, "eval_loss": 0.4, "time": 2.0})
    at = show("runs", compare="one,two", lang="en")
    differences, outcome = (table.value.set_index("Run") for table in at.table)
    assert differences.loc["device_map"].tolist() == ["80 blocks on 2 GPUs", "–"]
    assert outcome.loc["Last loss"].tolist() == ["1", "0.5 ★"]
    assert outcome.loc["Lowest evaluation loss"].tolist() == ["–", "0.4"], "the only one is not the best"
    assert "★ the best of these runs" in [caption.value for caption in at.caption]


def test_figures_that_read_alike_are_equally_good() -> None:
    from lora_backend.views.compare_view import best_of

    assert best_of([3.37251, 3.37254]) == set()
    assert best_of([3.37251, 3.37254, 3.4, None]) == {0, 1}


def test_a_compared_chart_names_its_curve_where_only_one_run_has_the_figure() -> None:
    from pages.parts.widgets.charts import compared_chart

    one = {"step": np.array([1.0, 2.0]), "loss": np.array([2.0, 1.0])}
    figure = compared_chart([("first", one), ("second", {})], "loss", "Loss")
    assert [line.name for line in figure.data] == ["first"]
    assert figure.layout.showlegend is True


@pytest.mark.parametrize("ids", ["one", "one,none", "../one,one", ",".join(["one"] * 9)])
def test_a_comparison_that_cannot_be_made_is_one_sentence(ids: str) -> None:
    made("one")
    at = show("runs", compare=ids)
    assert not at.exception
    assert len(at.warning) == 1


def test_a_deleted_run_is_gone_and_undo_brings_it_back() -> None:
    made("one")
    made("two")
    at = chosen(show("runs"), 0)
    at.button(key="delete_runs").click().run()
    assert [run.id for run in list_runs(this_installation().runs)] == ["one"]
    assert [run.id for run in Bin(this_installation().workspace).list()] == ["two"]
    at.button(key="undo_delete").click().run()
    assert [run.id for run in list_runs(this_installation().runs)] == ["two", "one"]


def test_a_replaced_adapter_is_in_the_bin_and_is_put_back() -> None:
    installation = this_installation()
    target = make_published(installation.workspace / "adapters/shop/1")
    AdapterBin(installation).put(target, {"pkg": "shop", "version": "1"}, "a_run")
    at = show("runs")
    assert any("adapters/shop/1" in caption.value and "a_run" in caption.value for caption in at.caption)
    (button,) = [button for button in at.button if str(button.key).startswith("restore-adapter-")]
    button.click().run()
    assert not at.exception
    assert (target / "adapter_config.json").is_file()
    assert any("trash is empty" in caption.value for caption in at.caption)


def test_the_bin_is_emptied_of_runs_and_adapters_when_that_is_confirmed() -> None:
    installation = this_installation()
    AdapterBin(installation).put(make_published(installation.workspace / "a/b"), {"output_dir": "a"}, "r")
    Bin(installation.workspace).delete(made("one"))
    at = show("runs")
    at.checkbox(key="empty_sure").check().run()
    at.button(key="empty_bin").click().run()
    assert not at.exception
    assert (AdapterBin(installation).list(), Bin(installation.workspace).list()) == ([], [])


def test_a_bin_that_is_a_link_is_a_sentence_on_the_page(tmp_path: Path) -> None:
    made("one")
    (this_installation().workspace / "bin").symlink_to(tmp_path)
    at = show("runs")
    assert not at.exception
    assert any("is a link" in warning.value for warning in at.warning)


def test_a_pin_and_the_archive_are_switched_for_all_that_are_chosen() -> None:
    runs = [made("one"), made("two")]
    at = chosen(show("runs"), 0, 1)
    at.button(key="pin_runs").click().run()
    assert all(read_labels(run.path).pinned for run in runs)
    at = chosen(show("runs"), 0, 1)
    at.button(key="pin_runs").click().run()
    assert not any(read_labels(run.path).pinned for run in runs)


def test_a_tag_with_markup_is_shown_as_it_is() -> None:
    write_labels(made("one").path, tags=["<b>x</b>"])
    assert show("runs").dataframe[0].value["Tags"].tolist() == ["<b>x</b>"]


def test_what_is_chosen_does_not_jump_to_another_run_when_the_rows_change() -> None:
    made("one")
    made("two")
    at = chosen(show("runs"), 1)
    made("three")
    at.run()
    assert "pin_runs" not in [button.key for button in at.button], "nothing is chosen in a table of other rows"


def test_tags_of_several_runs_keep_what_each_of_them_has_alone() -> None:
    for name, tags in (("one", ["shared", "mine"]), ("two", ["shared"])):
        write_labels(made(name).path, tags=tags)
    at = chosen(show("runs"), 0, 1)
    (field,) = [field for field in at.text_input if field.label == "Tags, separated by commas"]
    assert field.value == "shared"
    field.set_value("new")
    next(button for button in at.button if button.label == "Apply to the selected runs").click().run()
    assert not at.exception
    found = {run.id: set(read_labels(run.path).tags) for run in list_runs(this_installation().runs)}
    assert found == {"one": {"mine", "new"}, "two": {"new"}}


@pytest.mark.parametrize("ids", ["one,one", "one,gone", "one", "a,b,c,d,e,f,g,h,i"])
def test_a_comparison_that_cannot_be_is_one_sentence_under_one_title(ids: str) -> None:
    made("one")
    at = show("runs", compare=ids)
    assert not at.exception
    assert len(at.title) == 1
    assert len(at.warning) == 1


def test_settings_that_were_changed_on_resume_are_compared_and_listed() -> None:
    made("one", seed=1)
    two = made("two", seed=1)
    for changes in ({}, {"max_time": 2.0}):
        add_start(two, changes=changes)
    differences = show("runs", compare="one,two").table[0].value
    assert list(differences["Run"]) == ["Curve", "max_time"]
    table = show("runs", columns="max_time").dataframe[0]
    assert table.value["max_time"].dropna().tolist() == [2.0], "a number, by which the column is sorted"
    assert table.proto.placeholder == "–"


def test_the_answers_to_the_same_questions_stand_side_by_side() -> None:
    for name, answer, correct in (("one", "9 m", True), ("two", "no <b>idea</b>", False)):
        run = made(name)
        put_answers(run, [{"question": "How tall?", "adapter_answer": answer, "adapter_correct": correct}])
    at = show("runs", compare="one,two")
    answers = at.dataframe[-1].value
    assert answers.loc["How tall?"].tolist() == ["✓ 9 m", "✗ no <b>idea</b>"]
    made("three"), made("four")
    titles = [title.value for title in show("runs", compare="three,four").header]
    assert "Answers" not in titles


def test_what_the_table_shows_is_in_the_address_and_comes_back_from_it() -> None:
    made("one", "failed")
    made("two")
    at = show("runs")
    assert "filter" not in at.query_params
    at.text_input(key=addresses.RUN_FILTER).set_value("one")
    at.multiselect(key=addresses.RUN_STATES).set_value(["failed"])
    at.multiselect(key=addresses.RUN_COLUMNS).set_value(["seed"]).run()
    words = {key: at.query_params[key] for key in ("filter", "states", "columns")}
    assert words == {"filter": "one", "states": "failed", "columns": "seed"}
    table = show("runs", **words).dataframe[0].value
    assert table["Name"].tolist() == ["one"]
    assert "seed" in table
    assert "loss" not in table
    at.text_input(key=addresses.RUN_FILTER).set_value("").run()
    assert "filter" not in at.query_params


def test_tags_of_another_tab_stay_whichever_page_writes_some_more() -> None:
    run = made("one")
    write_labels(run.path, tags=["a"])
    first, second = show("runs", run=run.id), show("runs", run=run.id)
    second.multiselect(key=f"tags-{run.id}").set_value(["a", "theirs"]).run()
    first.multiselect(key=f"tags-{run.id}").set_value(["mine"]).run()
    assert read_labels(run.path).tags == ["theirs", "mine"], "`a` was taken away here, `theirs` was never seen"

    table = chosen(show("runs"), 0)
    field = next(box for box in table.text_input if box.label == "Tags, separated by commas")
    write_labels(run.path, added=["later"])
    field.set_value("mine, more")
    next(button for button in table.button if button.label == "Apply to the selected runs").click().run()
    assert read_labels(run.path).tags == ["mine", "later", "more"]


def tags_field(at: AppTest) -> Any:
    return next(box for box in at.text_input if box.label == "Tags, separated by commas")


def set_tags(at: AppTest, text: str) -> AppTest:
    tags_field(at).set_value(text)
    return next(button for button in at.button if button.label == "Apply to the selected runs").click().run()


def test_the_field_of_tags_is_filled_anew_and_takes_away_what_it_then_shows() -> None:
    run = made("one")
    write_labels(run.path, tags=["a"])
    at = chosen(show("runs"), 0)
    write_labels(run.path, added=["theirs"])
    set_tags(at, "a, mine")
    assert tags_field(at).value == "a, theirs, mine"
    set_tags(at, "a, mine")
    assert read_labels(run.path).tags == ["a", "mine"]

    chosen(at)
    del at.session_state[f"tags_text-{run.id}"]  # a server forgets a field that is not drawn, AppTest does not
    write_labels(run.path, added=["later"])
    chosen(at, 0)
    assert tags_field(at).value == "a, mine, later"
    set_tags(at, "a, mine")
    assert read_labels(run.path).tags == ["a", "mine"]


def test_tags_that_were_refused_stay_in_their_field_and_can_be_mended() -> None:
    run = made("one")
    at = set_tags(chosen(show("runs"), 0), f"good, {'x' * 41}")
    assert "up to 40 characters" in at.toast[0].value
    assert tags_field(at).value == f"good, {'x' * 41}"
    set_tags(at, "good")
    assert read_labels(run.path).tags == ["good"]
