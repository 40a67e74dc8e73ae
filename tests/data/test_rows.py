"""Data sets: good rows are read, the first bad one is named with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from lora_backend.data.example_file import ExampleFile, open_examples
from lora_backend.data.uploads import MAX_UPLOAD_BYTES, store_upload
from lora_backend.errors import DataError
from tests.questions import read_questions

CHAT = b'{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}\n'
PROMPT = b'{"prompt": "a", "completion": "b"}\n'


def opened(path: Path) -> ExampleFile:
    return open_examples(path, path.parent / "kept")


@pytest.mark.parametrize(("row", "kind"), [(CHAT, "messages"), (PROMPT, "prompt_completion")])
def test_good_rows_are_read(row: bytes, kind: str, tmp_path: Path) -> None:
    (tmp_path / "d.jsonl").write_bytes(b"\xef\xbb\xbf" + row + b"\r\n\n" + row.strip())
    found = opened(tmp_path / "d.jsonl")
    assert (found.found_form.form, len(found)) == (kind, 2)


def test_a_missing_file_and_an_empty_folder_are_sentences(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.jsonl"):
        opened(tmp_path / "none.jsonl")
    with pytest.raises(DataError, match="contains no data files"):
        opened(tmp_path)


def test_questions_end_with_the_user(tmp_path: Path) -> None:
    path = tmp_path / "q.jsonl"
    path.write_text('{"messages": [{"role": "user", "content": "a"}], "expect": ["b"], "group": "g"}\n')
    assert read_questions(path) == [{"messages": [{"role": "user", "content": "a"}], "expect": ["b"], "group": "g"}]
    path.write_bytes(CHAT)
    with pytest.raises(DataError, match="ends with the user"):
        read_questions(path)


def test_an_upload_is_kept_under_a_safe_name_once(tmp_path: Path) -> None:
    first, num_rows = store_upload(PROMPT, "../../evil name.jsonl", tmp_path / "data")
    second, _ = store_upload(PROMPT, "../../evil name.jsonl", tmp_path / "data")
    assert first == second
    assert first.parent == tmp_path / "data"
    assert first.read_bytes() == PROMPT
    assert num_rows == 1


def test_a_bad_or_huge_upload_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="Line 1"):
        store_upload(b"{oops", "d.jsonl", tmp_path / "data")
    with pytest.raises(DataError, match="upload limit"):
        store_upload(b" " * (MAX_UPLOAD_BYTES + 1), "d.jsonl", tmp_path / "data")
    assert not (tmp_path / "data").exists()
