"""What a run's files may hold: each limit by the last that is read and the first that is not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lora_backend.runs.history.run_table import History
from lora_backend.runs.record import locked_files as files
from lora_backend.runs.record.curves import read_columns
from lora_backend.runs.record.locked_files import MAX_STATE_BYTES, read_json, read_jsonl
from tests.run_files import add_start, attempt_of, make_run


def points(count: int) -> str:
    return "".join(json.dumps({"step": step, "loss": 1.0}) + "\n" for step in range(count))


def test_a_state_of_just_the_limit_is_read_and_a_larger_one_is_none_of_ours(tmp_path: Path) -> None:
    path = tmp_path / "status.json"
    path.write_bytes(b"{" + b" " * (MAX_STATE_BYTES - 2) + b"}")
    assert read_json(path) == {}
    with path.open("ab") as file:
        file.write(b" ")
    assert read_json(path) is None


@pytest.mark.parametrize("name", ["run.json", "status.json", "exit.json", "labels.json", "attempts/1.json"])
def test_a_copied_run_with_a_file_that_is_too_large_is_shown_without_it(name: str, tmp_path: Path) -> None:
    run = make_run(tmp_path / "runs", config={"r": 4}, config_text="r: 4\n", argv=None)
    add_start(run)
    (run.path / name).write_bytes(b'{"x": "' + b"x" * MAX_STATE_BYTES + b'"}')
    assert len(History(run.path.parent).rows()) == (name != "run.json")
    run.state()
    assert attempt_of(run).get("number", 1) == 1


@pytest.mark.parametrize("nan", ["", '{"step": -1, "loss": NaN}\n'])
def test_of_more_lines_than_the_limit_the_newest_are_read(
    nan: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "MAX_LINES", 10)
    path = tmp_path / "metrics.jsonl"
    for count, first in ((10, 0), (11, 1), (1000, 990)):
        path.write_text(nan + points(count) if count > 10 else points(count))
        assert read_columns(path)["step"].tolist() == list(range(first, count))
        assert [row["step"] for row in read_jsonl(path, follow=True)] == list(range(first, count))


def test_of_more_bytes_than_the_limit_the_newest_whole_lines_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text(points(9))
    size = path.stat().st_size
    monkeypatch.setattr(files, "MAX_LINES_BYTES", size)
    assert read_columns(path)["step"].tolist() == list(range(9))
    monkeypatch.setattr(files, "MAX_LINES_BYTES", size - 1)
    assert read_columns(path)["step"].tolist() == list(range(1, 9))
    path.write_text("\n" * 1000 + '{"step": 5}\n')
    assert read_columns(path)["step"].tolist() == [5]
