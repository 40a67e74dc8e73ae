"""Rows by their number: what is read of a file, what is kept of it, and when that is not believed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lora_backend.data import row_index
from lora_backend.data.example_file import open_examples
from lora_backend.data.example_scan import equal_rows
from lora_backend.data.held_back import held_back, left_over
from lora_backend.data.row_file import open_row_file, preview_rows, sha256_of_rows
from lora_backend.errors import DataError
from tests.data.row_files import KINDS, written

ROWS = [{"text": f"{number} " + "x" * (number % 700)} for number in range(6000)]
"""Some 2 MB: more than is read at once."""


@given(
    st.lists(st.sampled_from([b'{"a": 1}', b"", b"  ", b"\t\r", b"x", b" {}", b"\xff", b"y" * 3000]), max_size=12),
    st.booleans(),
    st.booleans(),
)
def test_lines_are_found_as_python_finds_them(lines: list[bytes], has_end: bool, has_mark: bool) -> None:  # fmt: skip
    data = (b"\xef\xbb\xbf" if has_mark else b"") + b"\n".join(lines) + (b"\n" if has_end else b"")
    path, kept = Path(f"/tmp/{os.getpid()}-lines.jsonl"), Path(f"/tmp/{os.getpid()}-lines")
    path.write_bytes(data)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(row_index, "BUFFER_BYTES", 7)
        rows = open_row_file(path, kept)
    expected = [number for number, line in enumerate(lines, start=1) if line.strip()]
    assert [row.line for row in rows] == expected
    assert [rows.row(index) for index in range(len(rows))] == list(rows)
    assert [row.values for row in rows] == [row.values for row in preview_rows(path, 100)]


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_by_its_number_is_the_row_in_its_order(kind: str, tmp_path: Path) -> None:
    path = written(tmp_path, ROWS, kind)
    rows = open_row_file(path, tmp_path / "kept")
    assert [row.values for row in rows] == ROWS
    for index in (0, 255, 256, 257, 5999):
        assert rows.raw(index) == ROWS[index]
        assert rows.row(index).number == index + 1
    assert rows.place(7)[1] == {"jsonl": 8, "json": 8 * 3 - 1, "csv": 9, "tsv": 9}.get(kind)
    assert rows.sha256 == sha256_of_rows(path)
    with pytest.raises(IndexError):
        rows.row(6000)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Files that were read whole."""
    read: list[str] = []
    by_lines, by_rows = row_index._index_lines, row_index._write_down

    def lines(file: object, *arguments: object) -> object:
        read.append("lines")
        return by_lines(file, *arguments)  # type: ignore[arg-type]

    def rows(source: object, *arguments: object) -> object:
        read.append("rows")
        return by_rows(source, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(row_index, "_index_lines", lines)
    monkeypatch.setattr(row_index, "_write_down", rows)
    return read


def old(path: Path) -> Path:
    """As if it had been written a minute ago."""
    os.utime(path, (time.time() - 60, time.time() - 60))
    time.sleep(0.06)  # the system's own time of the change cannot be set
    return path


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_a_large_file_is_read_once_until_it_changes(kind: str, tmp_path: Path, reads: list[str]) -> None:
    path = old(written(tmp_path, ROWS, kind))
    first = open_row_file(path, tmp_path / "kept")
    assert len(open_row_file(path, tmp_path / "kept")) == 6000
    assert len(reads) == 1
    written(tmp_path, ROWS[:-1], kind)
    again = open_row_file(path, tmp_path / "kept")
    assert (len(reads), len(again)) == (2, 5999)
    assert again.sha256 != first.sha256


def test_a_file_that_was_written_just_now_is_not_believed_to_be_the_same(tmp_path: Path, reads: list[str]) -> None:
    path = written(tmp_path, ROWS, "jsonl")
    open_row_file(path, tmp_path / "kept")
    open_row_file(path, tmp_path / "kept")
    assert len(reads) == 2, "its time may be the same after it was written again"


def test_what_is_kept_and_damaged_is_made_again(tmp_path: Path, reads: list[str]) -> None:
    path = old(written(tmp_path, ROWS, "csv"))
    open_row_file(path, tmp_path / "kept")
    for kept in (tmp_path / "kept").iterdir():
        kept.write_bytes(kept.read_bytes()[:10])
    assert open_row_file(path, tmp_path / "kept").raw(5999) == ROWS[5999]
    assert reads == ["rows", "rows"]


def test_a_file_that_is_changed_while_it_is_read_is_said(tmp_path: Path) -> None:
    path = written(tmp_path, ROWS, "jsonl")
    rows = open_row_file(path, tmp_path / "kept")
    assert rows.raw(3) == ROWS[3]
    with path.open("ab") as file:
        file.write(b"{}\n")
    with pytest.raises(DataError, match=r"rows\.jsonl changed while it was read"):
        rows.raw(4)
    path.unlink()
    written(tmp_path, ROWS[:9], "jsonl")
    with pytest.raises(DataError, match="changed while"):
        list(rows)


def test_progress_is_told_from_0_to_1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_index, "TELL_EVERY_S", 0.0)
    for kind in ("jsonl", "csv"):
        told: list[float] = []
        open_row_file(written(tmp_path, ROWS, kind), tmp_path / "kept", told.append)
        assert told == sorted(told)
        assert 0 <= told[0] < told[-1] <= 1


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    """A row more costs some bytes of mapped files, and none of the process's own memory."""
    small, large = tmp_path / "small.jsonl", tmp_path / "large.jsonl"
    line = json.dumps({"text": "x" * 2000}) + "\n"
    small.write_text(line * 100)
    large.write_text(line * 40_000)  # 80 MB
    script = (
        "import sys; from pathlib import Path; from lora_backend.data.example_file import open_examples, preview_examples\n"
        "preview_examples(Path(sys.argv[1]), 9); e = open_examples(Path(sys.argv[1]), Path(sys.argv[2])); e[len(e) - 1]\n"
        "print(max(int(l.split()[1]) for l in open('/proc/self/status') if l.startswith('RssAnon')))"
    )

    def anonymous_kb(path: Path) -> int:
        command = [sys.executable, "-c", script, str(path), str(tmp_path / "kept")]
        return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    assert anonymous_kb(large) < anonymous_kb(small) + 20_000


# ----------------------------------------------------------------------------------------------------- equal rows


@given(st.lists(st.integers(0, 6)))
def test_equal_rows_point_to_the_first_of_them(digests: list[int]) -> None:
    expected = [
        (place, digests.index(digest))
        for place, digest in enumerate(digests)
        if digest and digests.index(digest) != place
    ]
    assert [tuple(pair) for pair in equal_rows(np.array(digests, np.uint64)).tolist()] == expected


def test_rows_on_both_sides_of_the_split_are_counted(tmp_path: Path) -> None:
    rows = [{"text": str(number % 10)} for number in range(80)] + [{"text": "alone"}, {"text": "alone too"}]
    found = open_examples(written(tmp_path, rows, "jsonl"), tmp_path / "kept")
    aside, trained = held_back(len(found), 0.2, 3), left_over(len(found), 0.2, 3)
    assert sorted([*aside, *trained]) == list(range(82))
    texts = {found[int(place)] for place in trained}
    expected = sorted(int(place) + 1 for place in aside if found[int(place)] in texts)
    note = found.in_both(aside)
    assert note is not None
    assert (note.code, note.count, note.rows) == ("in_both_splits", len(expected), expected)
    assert found.num_duplicates == 70


def test_what_a_row_says_beyond_its_texts_is_honoured_or_said(tmp_path: Path) -> None:
    chat: list[dict[str, Any]] = [{"role": "user", "content": "a", "mood": "x"}, {"role": "assistant", "content": "b"}]
    rows: list[dict[str, Any]] = [
        {"messages": chat, "id": 1},
        {"messages": [chat[0], {**chat[1], "weight": 0}]},
        {"messages": chat, "train": False},
        {"messages": [*chat, chat[0], {"role": "assistant", "content": ""}], "id": None},
    ]
    found = open_examples(written(tmp_path, rows, "jsonl"), tmp_path / "kept")
    assert [found.row_number(index) for index in range(len(found))] == [1, 4], "two rows ask not to be learned"
    assert {(note.code, note.detail): (note.count, note.rows) for note in found.notes} == {
        ("unused_key", "id"): (1, [1]), ("unused_key", "messages[].mood"): (2, [1, 4]), ("all_prompt", None): (2, [2, 3]),
        ("empty_answer", None): (1, [4]),
    }  # fmt: skip
    assert found.num_bad_rows == 0


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_rows_are_read_where_the_cache_takes_nothing(kind: str, tmp_path: Path) -> None:
    path, blocked = written(tmp_path, ROWS[:9], kind), tmp_path / "file"
    blocked.write_text("")
    found = open_examples(path, blocked / "kept")
    spare = found.rows.kept
    assert (len(found), spare.is_dir()) == (9, True)
    del found
    assert not spare.exists()


def test_where_nothing_can_be_written_at_all_it_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    path, blocked = written(tmp_path, ROWS[:9], "csv"), tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setattr("tempfile.tempdir", str(blocked))
    with pytest.raises(DataError, match=r"rows\.csv cannot be read: its index cannot be written to .* Free some space"):
        open_examples(path, blocked / "kept")


def test_a_row_nested_as_deep_as_json_goes_is_read_or_a_bad_row(tmp_path: Path) -> None:
    for depth in range(100, 1000, 25):
        path = tmp_path / "d.jsonl"
        path.write_text('{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}], "tools": [{"x": ' + "[" * depth + "]" * depth + "}]}\n" + '{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}')  # fmt: skip
        found = open_examples(path, tmp_path / "kept", max_bad_rows=None)
        assert len(found) + found.num_bad_rows == 2
