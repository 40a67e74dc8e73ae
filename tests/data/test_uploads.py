"""Data that comes through the browser: names that lead nowhere, and nothing left behind of what is refused."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from lora_backend.data.row_file import preview_rows
from lora_backend.data.uploads import MAX_UPLOAD_BYTES, store_upload
from lora_backend.errors import DataError
from tests.python import limited

ROW = b'{"prompt": "a", "completion": "b"}\n'


@pytest.mark.parametrize(
    "name",
    [
        "../../x", "../..", "..", ".", "", "/etc/passwd", "/abs/olute.jsonl", "a/b/c.jsonl", "C:\\evil\\x.jsonl", "\\\\host\\share", "a\0b.jsonl",
        ".hidden.jsonl", "...jsonl", "-rf.jsonl", "a b\tc\n.jsonl", "$(rm x);`y`.jsonl", "x" * 500 + ".jsonl", "\ud800.jsonl", "数据.jsonl",
        "\U00020000" * 80 + ".jsonl", "😀.jsonl", "con.jsonl", "%2e%2e%2fx.jsonl",
    ],
)  # fmt: skip
def test_whatever_it_is_called_it_lies_right_below_the_root(name: str, tmp_path: Path) -> None:
    root = tmp_path / "data"
    path, num_rows = store_upload(ROW, name, root)
    assert path.parent == root
    assert list(root.iterdir()) == [path], "and nothing beside it"
    assert list(tmp_path.iterdir()) == [root]
    assert not path.name.startswith(".")
    assert path.suffix == ".jsonl"
    assert len(preview_rows(path, 9)) == num_rows == 1


def test_another_content_of_the_same_name_does_not_replace_the_first(tmp_path: Path) -> None:
    first, _ = store_upload(ROW, "d.jsonl", tmp_path)
    second, _ = store_upload(ROW * 2, "d.jsonl", tmp_path)
    assert first != second
    assert first.read_bytes() == ROW


def test_the_bytes_are_kept_as_they_came(tmp_path: Path) -> None:
    data = b"\xef\xbb\xbf" + ROW.replace(b"\n", b"\r\n") + b"\n" + ROW.strip()
    path, num_rows = store_upload(data, "d.jsonl", tmp_path)
    assert path.read_bytes() == data
    assert num_rows == 2


@pytest.mark.parametrize(
    "data",
    [b"", b"\n\n", b"\0\1\2", b"\x89PNG\r\n\x1a\n", ROW.decode().encode("utf-16"), ROW + b"[]\n", b"PK\3\4", ROW + b'{"messages": []}\n'],
)  # fmt: skip
def test_bad_content_leaves_nothing_behind(data: bytes, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"d\.jsonl"):
        store_upload(data, "d.jsonl", tmp_path / "data")
    assert list(tmp_path.iterdir()) == []


def test_the_limit_is_named_with_the_way_around_it(tmp_path: Path) -> None:
    with pytest.raises(DataError) as raised:
        store_upload(b" " * (MAX_UPLOAD_BYTES + 1), "d.jsonl", tmp_path / "data")
    assert str(MAX_UPLOAD_BYTES) in str(raised.value)
    assert str(tmp_path / "data") in str(raised.value)


def test_a_disk_that_is_full_leaves_no_half_of_an_upload(tmp_path: Path) -> None:
    """The limit of a file's size stands in for the disk's end."""
    script = (
        "from pathlib import Path; from lora_backend.data.uploads import store_upload\n"
        f"try: store_upload({ROW!r} * 2000, 'd.jsonl', Path({str(tmp_path)!r}))\n"
        "except OSError as error: print('refused')\n"
    )
    said = limited(script, file_bytes=1024)
    assert said == "refused\n"
    assert list(tmp_path.iterdir()) == []


def test_one_whose_name_and_first_digits_agree_with_another_replaces_nothing(tmp_path: Path) -> None:
    first, _ = store_upload(ROW, "d.jsonl", tmp_path)
    first.write_bytes(ROW * 3)  # as if somebody had found a content with the same eight digits
    second, _ = store_upload(ROW, "d.jsonl", tmp_path)
    assert (first.read_bytes(), second.read_bytes()) == (ROW * 3, ROW)
    assert second.name == f"d-{hashlib.sha256(ROW).hexdigest()}.jsonl"
    assert store_upload(ROW, "d.jsonl", tmp_path)[0] == second
