"""Rows changed or left out, written into a new file beside the old one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lora_backend.data.edited_rows import checked_row, edited_name, write_edited
from lora_backend.data.row_file import preview_rows
from lora_backend.data.row_text import MOST_TYPED, line_of, typed_row
from lora_backend.errors import DataError
from tests.data.large import LARGE, ROW

GOOD = '{"prompt": "a",  "completion": "é"}'


def lines(path: Path) -> list[str]:
    return path.read_text("utf-8").splitlines()


def test_what_is_not_touched_stays_byte_for_byte_and_the_old_file_too(tmp_path: Path) -> None:
    source = tmp_path / "chats.jsonl"
    source.write_text(f"{GOOD}\r\n\n{{broken\n{GOOD}\n{GOOD}", "utf-8")
    before = source.read_bytes()
    made = write_edited(source, {2: '{"prompt": "b",\n"completion": "c"}', 3: None}, tmp_path / "data")
    assert lines(made) == [GOOD, '{"prompt": "b", "completion": "c"}', GOOD]
    assert source.read_bytes() == before
    assert made.name.startswith("chats-edited-")
    assert [path.name for path in made.parent.iterdir()] == [made.name], "nothing half-written is left"
    again = write_edited(source, {2: '{"prompt": "b", "completion": "c"}', 3: None}, tmp_path / "data")
    assert again == made, "the same edits give the same file"


def test_a_name_stays_short_however_often_a_file_is_edited() -> None:
    first = edited_name("chats-1a2b3c4d.csv", "0" * 64)
    assert first == "chats-edited-00000000.jsonl"
    assert edited_name(first, "1" * 64) == "chats-edited-11111111.jsonl"


@pytest.mark.parametrize(
    ("typed", "said"),
    [('{"a": 1', "Row 3 is not JSON"), ("[1]", "must be a JSON object"), ('{\n"a" 1}', "in line 2"), ("", "Row 3 is not JSON")],
)  # fmt: skip
def test_what_is_no_row_is_said_with_its_number_and_line(typed: str, said: str) -> None:
    with pytest.raises(DataError, match=said):
        checked_row(typed, 3)


def test_half_of_a_surrogate_pair_is_written_as_json_writes_it() -> None:
    assert checked_row('{"a": "\\ud83d"}', 1) == '{"a": "\\ud83d"}'


def test_a_file_of_which_nothing_stays_or_that_has_no_such_row_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "one.jsonl"
    source.write_text(GOOD + "\n")
    with pytest.raises(DataError, match="Keep at least one"):
        write_edited(source, {1: None}, tmp_path / "data")
    with pytest.raises(DataError, match="there is no row 7"):
        write_edited(source, {7: GOOD}, tmp_path / "data")
    assert list((tmp_path / "data").iterdir()) == []


def test_a_large_file_is_copied_by_another_process_which_says_how_far_it_is(tmp_path: Path) -> None:
    source = tmp_path / "large.jsonl"
    source.write_bytes(LARGE * 3)
    told: list[float] = []
    made = write_edited(source, {2: None, 5: GOOD}, tmp_path / "data", told.append)
    assert made.stat().st_size == len(LARGE) * 3 - 2 * len(ROW) + len(json.dumps(json.loads(GOOD), ensure_ascii=False).encode()) + 1  # fmt: skip
    assert told
    assert all(0 < fraction <= 1 for fraction in told)


def test_a_row_is_typed_as_json_with_line_breaks_and_a_broken_line_as_it_is(tmp_path: Path) -> None:
    source = tmp_path / "a.jsonl"
    source.write_text(f"{GOOD}\n\n{{broken\n{GOOD}\n")
    first, second, _ = preview_rows(source, 3)
    assert typed_row(source, first) == '{\n  "prompt": "a",\n  "completion": "é"\n}'
    assert typed_row(source, second) == line_of(source, second) == "{broken"


def test_a_row_that_is_too_long_for_a_field_is_not_put_into_one(tmp_path: Path) -> None:
    source = tmp_path / "a.jsonl"
    source.write_text(json.dumps({"text": "x" * MOST_TYPED}) + "\n")
    with pytest.raises(DataError, match="too many to edit"):
        typed_row(source, preview_rows(source, 1)[0])


def test_the_rows_of_a_table_become_lines_and_a_broken_one_has_to_be_left_out(tmp_path: Path) -> None:
    source = tmp_path / "t.csv"
    source.write_text('question,answer\n1,"é\nf"\n2,b,c\n')
    with pytest.raises(DataError, match=r"Row 2 of t.csv cannot be copied"):
        write_edited(source, {1: GOOD}, tmp_path / "data")
    made = write_edited(source, {2: None}, tmp_path / "data")
    assert lines(made) == ['{"question": "1", "answer": "é\\nf"}']
    assert made.name.startswith("t-edited-")
