"""Data sets: good rows are read, the first bad one is named with its line."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lora_backend.data.rows import parse_dataset, read_dataset
from lora_backend.data.uploads import MAX_UPLOAD_BYTES, store_upload
from lora_backend.errors import DataError
from tests.questions import read_questions

CHAT = b'{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}\n'
PROMPT = b'{"prompt": "a", "completion": "b"}\n'


@pytest.mark.parametrize(("row", "kind"), [(CHAT, "messages"), (PROMPT, "prompt_completion")])
def test_good_rows_are_read(row: bytes, kind: str) -> None:
    found = parse_dataset(b"\xef\xbb\xbf" + row + b"\r\n\n" + row.strip(), "d.jsonl")
    assert (found.format, len(found.rows)) == (kind, 2)


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (b"{oops\n", "not JSON"), (b"[1]\n", "JSON object"), (b'{"text": "a"}\n', "needs `messages`"),
        (b'{"prompt": "a"}\n', "`completion` is empty"), (b'{"prompt": "a", "completion": "  "}\n', "`completion` is empty"),
        (b'{"prompt": 3, "completion": "b"}\n', "`prompt` must be a text"), (CHAT, "another kind"),
        (b'{"messages": [{"role": "user", "content": "a"}]}\n', "no answer"), (b'{"messages": "x"}\n', "must be a list"),
        (b'{"messages": [{"role": "robot", "content": "a"}]}\n', "must be a list"), (b'{"prompt": "\xff"}\n', "not UTF-8"),
    ],
)  # fmt: skip
def test_the_first_bad_row_is_named_with_its_line(bad: bytes, said: str) -> None:
    with pytest.raises(DataError) as raised:
        parse_dataset(PROMPT + b"\n" + bad + b"worse\n", "d.jsonl")
    assert re.search(r"\b[Ll]ine 3\b", str(raised.value))
    assert "d.jsonl" in str(raised.value)
    assert said in str(raised.value)


def test_an_empty_and_a_missing_file_are_sentences(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text("\n\n")
    with pytest.raises(DataError, match="empty"):
        read_dataset(tmp_path / "empty.jsonl")
    with pytest.raises(DataError, match=r"none\.jsonl"):
        read_dataset(tmp_path / "none.jsonl")
    with pytest.raises(DataError, match="cannot be read"):
        read_dataset(tmp_path)


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
    with pytest.raises(DataError, match="at most"):
        store_upload(b" " * (MAX_UPLOAD_BYTES + 1), "d.jsonl", tmp_path / "data")
    assert not (tmp_path / "data").exists()
