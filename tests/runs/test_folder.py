"""A run's files: what is written, what is read back, and what survives a crash in the middle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lora_backend.errors import RunError
from lora_backend.i18n import Message
from lora_backend.runs.record.run_store import RUN_ID, RunStore, list_runs, new_run_id, open_run
from lora_backend.runs.record.transitions import request_stop
from lora_backend.verification.rank_documents import empty_report
from tests.run_files import (
    add_point,
    answers_of,
    end_run,
    log_tail,
    make_run,
    points_of,
    put_answers,
    record_of,
    set_status,
    status_of,
)


@pytest.fixture
def run(tmp_path: Path) -> RunStore:
    config = {"model_name": "m", "r": 4}
    return make_run(
        tmp_path, config=config, config_text="model_name: m  # 模型\nr: 4\n", argv=["a"], actor="anna", name="first"
    )


def test_a_new_run_holds_what_it_was_started_with(run: RunStore, tmp_path: Path) -> None:
    found = record_of(open_run(tmp_path, run.id))
    assert (found["config"], found["argv"], found["actor"], found["name"]) == (
        {"model_name": "m", "r": 4},
        ["a"],
        "anna",
        "first",
    )
    assert found["versions"]["peft"]
    assert run.config_yaml.read_text("utf-8") == "model_name: m  # 模型\nr: 4\n"


def test_every_json_file_carries_its_format(run: RunStore) -> None:
    add_point(run, {"step": 1})
    run.write_rank_report(empty_report("ok", True, 4))
    request_stop(run)
    end_run(run, "finished")
    for path in (
        run.run_json,
        run.status_json,
        run.metrics_jsonl,
        run.rank_report_json,
        run.stop_request,
        run.exit_json,
    ):
        assert json.loads(path.read_text())["format"] == (2 if path == run.status_json else 1), path.name


def test_status_keys_are_changed_one_by_one_and_none_takes_one_out(run: RunStore) -> None:
    set_status(run, step=1, stage="training")
    set_status(run, step=2)
    set_status(run, stage=None)
    assert status_of(run)["step"] == 2
    assert "stage" not in status_of(run)


def test_a_sentence_is_stored_as_template_and_values(run: RunStore) -> None:
    end_run(run, "failed", cause="data", message=Message("Line {line} of {file}", {"line": 3, "file": "d.jsonl"}))
    stored = json.loads(run.exit_json.read_text())["message"]
    assert stored == {"template": "Line {line} of {file}", "values": {"line": 3, "file": "d.jsonl"}}
    assert str(run.state().message) == "Line 3 of d.jsonl"


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"null", b'{"state": "run', b"\xff\xfe", b'"x"'])
@pytest.mark.parametrize("file", ["status.json", "exit.json", "rank_report.json"])
def test_a_file_that_is_no_json_object_is_as_good_as_absent(file: str, content: bytes, run: RunStore) -> None:
    (run.path / file).write_bytes(content)
    assert run.state().state in ("starting", "lost")
    assert status_of(run).get("state") in ("starting", None)
    assert run.read_rank_report() is None


@pytest.mark.parametrize("end", ['{"step": 2, "lo', '{"step": 2', "\0\0\0\0", "{"])
def test_a_point_written_after_half_a_line_is_not_lost_with_it(end: str, run: RunStore) -> None:
    """A trainer was killed while it wrote; the one that goes on from its checkpoint appends to the same file."""
    add_point(run, {"step": 1})
    with run.metrics_jsonl.open("a") as file:
        file.write(end)
    assert [row["step"] for row in points_of(run)] == [1]
    add_point(run, {"step": 3})
    assert [row["step"] for row in points_of(run)] == [1, 3]


def test_lines_that_are_no_points_are_left_out(run: RunStore) -> None:
    run.metrics_jsonl.write_bytes(b'\n[1]\n{"step": 1}\nnull\n\xff\n{"step": 2}\r\n')
    assert [row["step"] for row in points_of(run)] == [1, 2]


def test_answers_are_replaced_as_a_whole(run: RunStore) -> None:
    assert answers_of(run) == []
    put_answers(run, [{"a": "é"}, {"a": "2"}])
    put_answers(run, [{"a": "\u2028"}])
    assert answers_of(run) == [{"format": 1, "a": "\u2028"}]


@pytest.mark.parametrize(
    "run_id", ["..", ".", "a/b", "a\\b", "", "/etc", ".hidden", "-x", "x" * 81, "a\n", "a\0", "é", "a b", "a.b"]
)
def test_what_is_no_id_is_refused_before_the_disk_is_asked(run_id: str, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="not the id"):
        open_run(tmp_path, run_id)


def test_ids_are_ids_and_differ_within_one_second() -> None:
    made = [new_run_id() for _ in range(20)]
    assert all(RUN_ID.fullmatch(run_id) for run_id in made)
    assert len(set(made)) > 18


def test_a_run_that_was_deleted_under_our_hands_is_a_sentence_or_empty(run: RunStore, tmp_path: Path) -> None:
    import shutil

    shutil.rmtree(run.path)
    assert (status_of(run), points_of(run), answers_of(run), run.read_rank_report(), log_tail(run)) == (
        {},
        [],
        [],
        None,
        "",
    )
    assert run.state().state == "lost"
    for action in (run.read_record, lambda: request_stop(run), lambda: open_run(tmp_path, run.id)):
        with pytest.raises(RunError, match="not found"):
            action()
    assert list_runs(tmp_path) == []


def test_a_file_or_folder_that_is_no_run_is_not_listed(run: RunStore, tmp_path: Path) -> None:
    (tmp_path / "a-file").write_text("")
    (tmp_path / "empty").mkdir()
    (tmp_path / "run.json").write_text("{}")
    assert [found.id for found in list_runs(tmp_path)] == [run.id]
    assert list_runs(tmp_path / "a-file") == []


@pytest.mark.parametrize(
    ("log", "max_bytes", "tail"),
    [
        (b"", 10, ""), (b"one\ntwo\n", 100, "one\ntwo\n"), (b"one\ntwo\n", 8, "one\ntwo\n"), (b"one\ntwo\n", 6, "two\n"), (b"one\ntwo", 5, "two"),
        ("é\né\n".encode(), 4, "é\n"), (b"\xff\xfe\n", 10, "\ufffd\ufffd\n"),
    ],
)  # fmt: skip
def test_the_tail_holds_whole_lines(log: bytes, max_bytes: int, tail: str, run: RunStore) -> None:
    run.train_log.write_bytes(log)
    assert log_tail(run, max_bytes) == tail


def test_without_a_log_there_is_no_tail(run: RunStore) -> None:
    assert log_tail(run) == ""


@pytest.mark.parametrize(
    "status",
    [
        {"trainer": {}, "state": 3},
        {"step": 3, "stage": "training", "fraction": 0.5, "detail": {"template": "x", "values": {}}},
    ],
)
def test_what_the_status_says_is_in_the_state(status: dict[str, Any], run: RunStore) -> None:
    run.status_json.write_text(json.dumps(status))
    state = run.state()
    assert (state.step, state.stage, state.fraction) == (
        status.get("step", 0),
        status.get("stage"),
        status.get("fraction"),
    )
