"""The page of a run, and the list, with what a run's folder may hold that no run of this version wrote here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from lora_backend.installation import this_installation
from lora_backend.runs.record.run_labels import write_labels
from lora_backend.runs.record.run_store import RunStore
from pages.parts.shell import addresses
from tests.pages.screens import charts, finished_run, show, texts
from tests.run_files import add_point, end_run, make_run, set_status

pytestmark = pytest.mark.usefixtures("workspace")
ELSEWHERE = {"pid": 4711, "start_ticks": 1, "boot_id": "of another machine"}
LONG_LINE_BYTES = 50 * 2**20
MARKUP = "<b>x</b> ![x](http://example.org/x.png)"


def sent_bytes(at: AppTest) -> int:
    """What all elements of a page have as their content."""
    return sum(len(element.proto.SerializeToString()) for element in at.main if getattr(element, "proto", None))


def figures(at: AppTest) -> dict[str, str]:
    return {metric.label: metric.value for metric in at.metric}


def test_a_run_of_a_newer_version_is_one_sentence_and_leaves_the_list_whole() -> None:
    finished_run()
    newer = finished_run()
    newer.run_json.write_text(newer.run_json.read_text().replace('"format": 1', '"format": 99'))
    at = show("runs", run=newer.id)
    assert ["newer version" in warning.value for warning in at.warning] == [True]
    assert not at.metric
    assert len(show("runs").dataframe[0].value) == 2


def test_a_run_copied_from_another_machine_is_lost_and_still_shows_its_curves() -> None:
    run = make_run(this_installation().runs, config={"model_name": "m"}, config_text="model_name: m\n", argv=None)
    set_status(run, state="running", step=2, total_steps=9, trainer=ELSEWHERE, supervisor=ELSEWHERE)
    add_point(run, {"step": 2, "loss": 1.5})
    at = show("runs", run=run.id)
    assert figures(at)["Loss"] == "1.5"
    assert len(charts(at)) == 1
    assert "another machine" in at.error[0].value
    assert not run.exit_json.exists(), "its end is not ours to write"
    assert show("runs").dataframe[0].value["State"].tolist() == ["Lost"]


def test_nan_infinity_and_points_without_step_leave_gaps_in_a_chart_that_still_draws() -> None:
    rows = [
        '{"step": 1, "loss": NaN}', '{"step": 2, "loss": 2.0, "grad_norm": Infinity}', '{"loss": 9.0}', '{"step": 3, "eval_loss": -Infinity}',
        '{"step": 4, "loss": 1.0, "learning_rate": null}', '{"step": "5", "loss": []}', "[1]", "no json", '{"step": 6, "lo',
    ]  # fmt: skip
    run = finished_run(metrics__jsonl="\n".join(rows))
    at = show("runs", run=run.id)
    (chart,) = charts(at)
    drawn = chart["data"]
    assert [line["name"] for line in drawn] == ["Loss"]
    assert "NaN" not in json.dumps(drawn)
    assert figures(at)["Loss"] == "2 → 1"
    assert "Evaluation loss" not in figures(at), "there is none"


def test_metrics_without_any_number_still_show_the_page() -> None:
    run = finished_run(metrics__jsonl='{"step": 1, "loss": NaN}\n')
    assert "Loss" not in figures(show("runs", run=run.id))


def write_long_line(run: RunStore, end: bytes) -> None:
    with run.train_log.open("wb") as file:
        file.write(b"the first line\n")
        for _ in range(LONG_LINE_BYTES // 2**20):
            file.write(b"x" * 2**20)
        file.write(end)


def test_a_line_of_fifty_mebibytes_in_the_log_is_not_sent_to_the_browser() -> None:
    run = finished_run()
    write_long_line(run, b"\nthe last line\n")
    at = show("runs", run=run.id)
    assert "the last line" in texts(at)
    assert sent_bytes(at) < 200_000


def test_a_log_that_ends_in_such_a_line_still_shows_something() -> None:
    run = finished_run()
    write_long_line(run, b" and its end")
    at = show("runs", run=run.id)
    assert "xxx" in texts(at)
    assert "Nothing is logged yet" not in texts(at)
    assert sent_bytes(at) < 200_000


def test_bytes_that_are_no_text_in_a_log_are_shown_as_such() -> None:
    run = finished_run()
    run.train_log.write_bytes(b"good \xff\xfe\x80 bytes\x00\x1b[31m and \xe4\xb8 half a letter\nlast\n")
    shown = texts(show("runs", run=run.id))
    assert "good \ufffd" in shown
    assert "last" in shown


def test_a_tag_a_note_and_a_name_with_markup_are_text_in_the_table() -> None:
    run = make_run(
        this_installation().runs, config={"model_name": "m"}, config_text="", argv=None, name=MARKUP, actor=MARKUP
    )
    end_run(run, "finished")
    write_labels(run.path, tags=["<img src=x onerror=alert(1)>"], note=MARKUP)
    table = show("runs").dataframe[0].value
    assert table["Tags"].tolist() == ["<img src=x onerror=alert(1)>"]
    assert table["Name"].tolist() == [MARKUP]


def test_a_name_with_markup_is_text_on_its_page() -> None:
    run = make_run(
        this_installation().runs, config={"model_name": "m"}, config_text="", argv=None, name=MARKUP, actor=MARKUP
    )
    end_run(run, "finished")
    at = show("runs", run=run.id)
    assert "![x](" not in at.title[0].value
    assert "![x](" not in texts(at)


def test_a_live_run_with_markup_in_its_name_is_text_in_the_list() -> None:
    make_run(this_installation().runs, config={"model_name": "m"}, config_text="", argv=None, name=MARKUP)
    at = show("runs")
    assert [link for link in at.get("page_link") if "![x](" in link.proto.label] == []


@pytest.mark.parametrize(
    "run_id", ["..", "../x", "a/b", "/etc", "a\\b", "a\0b", "%2e%2e", ".hidden", "é", "x" * 300, "a b", "-a", MARKUP]
)
def test_an_address_that_is_no_id_of_a_run_is_one_sentence(run_id: str) -> None:
    finished_run()
    at = show("runs", run=run_id)
    assert len(at.warning) == 1
    assert "![x](" not in at.warning[0].value
    assert not at.metric


REPORT = {"is_consistent": True, "status": "ok", "expected_r": 4, "mismatched_layers": [], "warnings": [], "layers": []}
PLAN = {"devices": [{"index": "cpu", "total_bytes": 5}]}
HALF: list[tuple[str, Any]] = [
    ("status.json", {"state": "running", "step": "two", "total_steps": "nine"}),
    ("status.json", {"state": "running", "step": None}),
    ("status.json", {"state": ["running"], "total_steps": -3, "step": 4}),
    ("exit.json", {"state": "exploded", "ended_at": "yesterday", "started_at": {}}),
    ("exit.json", {"state": "failed", "message": {"template": "{x}", "values": {}}}),
    ("run.json", {"config": {"model_name": 5}, "name": ["a"], "created_at": "long ago"}),
    ("run.json", {"config": None}),
    ("run.json", {}),
    ("labels.json", {"tags": "abc", "note": 5}),
    ("rank_report.json", {"is_consistent": True}),
    ("rank_report.json", {"layers": 5, "is_consistent": None}),
    ("answers.jsonl", {"question": 5}),
    ("metrics.jsonl", {"step": 1, "loss": 10**400}),
    ("attempts/1.json", {"plan": 5, "measured": "x"}),
    ("rank_report.json", REPORT | {"status": "fine"}),
    ("rank_report.json", REPORT | {"status": []}),
    ("rank_report.json", REPORT | {"mismatched_layers": [5]}),
    ("rank_report.json", REPORT | {"layers": [5]}),
    ("rank_report.json", REPORT | {"layers": [{"name": "q"}]}),
    ("attempts/1.json", {"plan": {"devices": [None]}}),
    ("attempts/1.json", {"plan": {"devices": [{"index": "cpu"}]}}),
    ("attempts/1.json", {"plan": PLAN, "measured": {"devices": [None]}}),
    ("attempts/1.json", {"plan": PLAN, "measured": {"devices": 5}}),
    ("attempts/1.json", {"plan": PLAN, "measured": {"rows": 2}}),
    ("attempts/1.json", {"plan": PLAN, "measured": {"step": 2, "rows": 2, "tokens": 3, "padded": True, "devices": [{"device": "cpu"}]}}),
]  # fmt: skip


@pytest.mark.parametrize("case", HALF, ids=lambda case: f"{case[0]} {json.dumps(case[1])[:60]}")
def test_files_of_other_forms_break_neither_the_page_nor_the_list(case: tuple[str, Any]) -> None:
    good = finished_run(metrics__jsonl='{"step": 1, "loss": 1.0}\n')
    run = make_run(this_installation().runs, config={"model_name": "m"}, config_text="model_name: m\n", argv=None)
    name, data = case
    (run.path / name).parent.mkdir(exist_ok=True)
    Path(run.path / name).write_text(json.dumps(data) + "\n")
    show("runs", run=run.id)
    table = show("runs").dataframe[0].value
    assert any(good.id in link for link in table["Open"])
    assert addresses.RUN in table["Open"][0]
