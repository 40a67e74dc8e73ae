"""Questions, and rows that only look good."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lora_backend.data.example_file import open_examples
from lora_backend.data.row_file import preview_rows
from lora_backend.errors import DataError
from tests.questions import read_questions

ASKED = {"role": "user", "content": "a"}
ANSWERED = {"role": "assistant", "content": "b"}


def written(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({}, "`messages`"), ({"messages": []}, "`messages`"), ({"messages": [ANSWERED]}, "ends with the user"), ({"messages": [ASKED, ANSWERED]}, "user"),
        ({"messages": [ASKED], "expect": "b"}, "`expect`"), ({"messages": [ASKED], "expect": [""]}, "`expect`"),
        ({"messages": [ASKED], "expect": [1]}, "`expect`"), ({"messages": [ASKED], "expect": None}, "`expect`"),
        ({"messages": [{"role": ["user"], "content": "a"}]}, "`messages`"), ({"messages": [{"role": "user", "content": None}]}, "`messages`"),
        ({"messages": [ASKED, "x"]}, "`messages`"),
    ],
)  # fmt: skip
def test_a_bad_question_is_named_with_its_line(row: Any, said: str, tmp_path: Path) -> None:
    with pytest.raises(DataError) as raised:
        read_questions(written(tmp_path / "q.jsonl", {"messages": [ASKED]}, row))
    assert "Line 2 of q.jsonl" in str(raised.value)
    assert said in str(raised.value)


def test_a_question_needs_neither_expectation_nor_group(tmp_path: Path) -> None:
    path = written(tmp_path / "q.jsonl", {"messages": [ASKED]}, {"messages": [ASKED, ANSWERED, ASKED], "group": 3})
    assert [(row["expect"], row["group"]) for row in read_questions(path)] == [([], ""), ([], "3")]


@pytest.mark.parametrize("content", ["", "\n \n"])
def test_no_question_at_all_is_a_sentence(content: str, tmp_path: Path) -> None:
    (tmp_path / "q.jsonl").write_text(content)
    with pytest.raises(DataError, match=r"q\.jsonl is empty"):
        read_questions(tmp_path / "q.jsonl")


def read_rows(path: Path) -> object:
    return open_examples(path, path.parent / "kept")


@pytest.mark.parametrize("read", [read_rows, read_questions])
@pytest.mark.parametrize("name", ["none.jsonl", "x" * 300, "a\0b", "\ud800", "a-file/below"])
def test_a_path_that_leads_nowhere_is_a_sentence(read: Any, name: str, tmp_path: Path) -> None:
    (tmp_path / "a-file").write_text("")
    with pytest.raises(DataError):
        read(tmp_path / name)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b'{"prompt": "a", "completion": "\xe9"}', "not UTF-8"), (b"\xff\xfe{\0}\0", "not UTF-8"), (b"[" * 100_000, "not JSON"),
        (b'{"prompt": "a", "completion": ' + b"9" * 5000 + b"}", "not JSON"), (b'{"prompt": "a"} {"prompt": "b"}', "not JSON"),
        (b'"text"', "JSON object"), (b"null", "JSON object"), (b"NaN", "JSON object"), (b'{"messages": {}, "prompt": "a", "completion": "b"}', "`messages`"),
        (b'{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": " "}]}', "it is written as messages"),
        (b'{"prompt": "a", "completion": null}', "`completion`"), (b'{"completion": "b"}', "`prompt`"),
    ],
)  # fmt: skip
def test_the_line_of_a_bad_row_counts_blank_lines_and_line_ends_of_every_kind(
    line: bytes, said: str, tmp_path: Path
) -> None:
    good = b'{"prompt": "a", "completion": "b"}'
    (tmp_path / "d.jsonl").write_bytes(good + b"\r\n\n" + good + b"\n" + line + b"\n")
    with pytest.raises(DataError) as raised:
        read_rows(tmp_path / "d.jsonl")
    assert "Line 4 of d.jsonl" in str(raised.value)
    assert said in str(raised.value)


def test_a_line_separator_inside_a_text_does_not_end_the_row(tmp_path: Path) -> None:
    (tmp_path / "d.jsonl").write_text('{"prompt": "a\u2028b\u0085c", "completion": "d"}')
    (row,) = preview_rows(tmp_path / "d.jsonl", 9)
    assert row.checked()["prompt"] == "a\u2028b\u0085c"
