"""How a run's files are read: what is wrong is absent, what is unknown stays, a newer format is refused; and how written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from lora_backend.errors import RunError
from lora_backend.i18n import Message
from lora_backend.runs.record.attempts import Attempt
from lora_backend.runs.record.documents import Exit, Labels, MetricPoint, RunRecord, Status, StopRequest
from lora_backend.runs.record.run_store import RunStore, open_run
from tests.run_files import add_start, end_run, make_run, set_status


@pytest.fixture
def run(tmp_path: Path) -> RunStore:
    return make_run(tmp_path, config={"r": 4}, config_text="r: 4\n", argv=["a"])


@pytest.mark.parametrize(
    ("kind", "data", "wrong"),
    [
        (RunRecord, {"config": {}, "name": 3, "actor": "anna"}, "name"),
        (RunRecord, {"config": {}, "argv": ["a", 3], "actor": "anna"}, "argv"),
        (Status, {"step": -1, "total_steps": 9}, "step"),
        (Status, {"step": True, "total_steps": 9}, "step"),
        (Status, {"epoch": float("nan"), "total_steps": 9}, "epoch"),
        (Status, {"started_at": 10**400, "total_steps": 9}, "started_at"),
        (Exit, {"state": "failed", "message": {"template": "{a}", "values": {}}, "cause": "code"}, "message"),
        (Exit, {"state": "failed", "log": "one", "cause": "code"}, "log"),
        (Attempt, {"plan": {"devices": 3}, "device_uuids": ["GPU-a"]}, "plan"),
        (Attempt, {"environment": {"A": 1}, "device_uuids": ["GPU-a"]}, "environment"),
        (StopRequest, {"deadline_s": "soon", "actor": "anna"}, "deadline_s"),
        (MetricPoint, {"step": 1, "loss": "low", "time": 1.0}, "loss"),
        (Labels, {"tags": "best", "note": "n"}, "tags"),
    ],
)
def test_a_wrong_field_is_absent_and_costs_no_other(kind: Any, data: dict[str, Any], wrong: str) -> None:
    found = kind.read(data)
    assert wrong not in found.model_fields_set
    assert getattr(found, wrong) == getattr(kind.read({key: data[key] for key in data if key != wrong}), wrong)
    for key in data.keys() - {wrong}:
        assert getattr(found, key) == data[key]


def test_a_wrong_field_of_the_attempt_costs_no_other_of_it() -> None:
    status = Status.read({"format": 2, "attempt": {"trainer": {"pid": "x"}, "stage": "training"}})
    assert (status.attempt.trainer, status.attempt.stage) == (None, "training")
    assert Status.read({"format": 2, "attempt": 3}).attempt.stage is None


def test_an_object_in_a_field_is_right_as_a_whole_or_absent() -> None:
    plan = {"devices": [{"index": 0, "total_bytes": 5}], "precision": "bf16"}
    assert Attempt.read({"plan": plan}).plan is not None
    plan["devices"].append({"index": [], "total_bytes": 5})  # type: ignore[attr-defined]
    attempt = Attempt.read({"plan": plan})
    assert (attempt.plan, attempt.is_planned) == (None, False), "its trainer plans again"


@pytest.mark.parametrize("data", [{}, {"config": 3}, {"config": None, "name": "x"}])
def test_a_record_without_a_config_is_none(data: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        RunRecord.read(data)


def test_what_is_unknown_is_kept_by_who_writes_the_file_anew(run: RunStore) -> None:
    written = json.loads(run.status_json.read_text())
    written["later"], written["attempt"]["later"] = {"a": 1}, 2
    run.status_json.write_text(json.dumps(written))
    set_status(run, step=3, stage="training")
    found = json.loads(run.status_json.read_text())
    assert (found["later"], found["attempt"]["later"], found["step"]) == ({"a": 1}, 2, 3)


@pytest.mark.parametrize("name", ["run.json", "status.json", "exit.json", "attempts/1.json"])
def test_a_newer_file_is_refused_in_one_sentence(run: RunStore, name: str) -> None:
    add_start(run)
    end_run(run, "finished")
    path = run.path / name
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 99}))
    with pytest.raises(RunError, match="written by a newer version") as refused:
        open_run(run.path.parent, run.id)
    assert "\n" not in str(refused.value)
    assert run.state().state == "finished", "a list shows it all the same"


def test_a_kind_that_only_a_newer_version_knows_is_refused_as_newer(run: RunStore) -> None:
    run.run_json.write_text(json.dumps(json.loads(run.run_json.read_text()) | {"kind": "dream"}))
    with pytest.raises(RunError, match="newer version"):
        open_run(run.path.parent, run.id)


@pytest.mark.parametrize(("name", "value"), [("step", "3"), ("step", -1), ("state", "paused"), ("epoch", float("inf"))])
def test_a_wrong_value_is_refused_where_it_is_set_and_nothing_is_written(run: RunStore, name: str, value: Any) -> None:
    before = run.status_json.read_bytes()

    def change() -> None:
        with run.changing_status() as status:
            status.step = 7
            setattr(status, name, value)

    with pytest.raises(ValidationError):
        change()
    assert run.status_json.read_bytes() == before


def test_a_sentence_is_stored_as_template_and_values(run: RunStore) -> None:
    end_run(run, "failed", cause="x", message=Message("Line {line} is bad.", {"line": 3}))
    assert json.loads(run.exit_json.read_text())["message"] == {
        "template": "Line {line} is bad.",
        "values": {"line": 3},
    }
    ended = run.read_exit()
    assert ended is not None
    assert ended.message == Message("Line {line} is bad.", {"line": 3})


@pytest.mark.parametrize(("kind", "needed"), [(RunRecord, {"config": {}}), (Status, {}), (Attempt, {}), (Labels, {})])
def test_a_document_is_written_in_this_versions_format_whatever_it_was_read_in(
    kind: Any, needed: dict[str, Any]
) -> None:
    assert kind.read({"format": 1, **needed}).to_json()["format"] == kind.FORMAT
    assert kind.read(needed).to_json()["format"] == kind.FORMAT


def test_a_status_of_format_1_is_written_back_in_format_2(run: RunStore) -> None:
    run.status_json.write_text(json.dumps({"format": 1, "state": "finished", "stage": "training"}))
    with run.changing_status() as status:
        status.step = 3
    written = json.loads(run.status_json.read_text())
    assert (written["format"], written["step"], written["attempt"]["stage"]) == (2, 3, "training")
