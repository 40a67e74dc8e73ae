"""Files of rows below the data roots, and the names that find them again."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from lora_backend.data import unread_uploads
from lora_backend.data.local_files import is_rows_file, local_files, name_of
from lora_backend.data.unread_uploads import keep_upload
from lora_backend.data.uploads import MAX_UPLOAD_BYTES
from lora_backend.errors import DataError


def put(path: Path, text: str = "{}\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_files_of_rows_are_found_and_nothing_of_models_and_runs(tmp_path: Path) -> None:
    root = tmp_path / "home"
    for name in ("a.jsonl", "sets/b.csv.gz", "ws/data/up.jsonl"):
        put(root / name)
    for name in (
        "model/config.json",
        "model/tokenizer.json",
        "ws/runs/1/metrics.jsonl",
        ".hidden/c.jsonl",
        "notes.txt",
    ):
        put(root / name)
    (tmp_path / "away.jsonl").write_text("{}")
    (root / "link.jsonl").symlink_to(tmp_path / "away.jsonl")
    names = {file.name for file in local_files([root, root / "ws/data"])}
    assert names == {"a.jsonl", "sets/b.csv.gz", "up.jsonl"}


def test_a_name_leads_back_to_its_file_when_two_roots_have_it(tmp_path: Path) -> None:
    first, second = put(tmp_path / "one/a.jsonl"), put(tmp_path / "two/a.jsonl")
    roots = (tmp_path / "one", tmp_path / "two")
    assert name_of(first, roots) == "a.jsonl"
    assert name_of(second, roots) == str(second)


def test_endings_count_with_what_packs_them() -> None:
    assert [name for name in ("a.jsonl", "a.JSONL.gz", "a.gz", "a.parquet", "a.txt", "csv") if is_rows_file(name)] == [
        "a.jsonl", "a.JSONL.gz", "a.parquet",
    ]  # fmt: skip


def test_an_upload_is_kept_as_it_is_even_with_bad_rows(tmp_path: Path) -> None:
    kept = keep_upload(b"{broken", "my chats.jsonl", tmp_path / "data")
    assert kept.read_bytes() == b"{broken"
    assert kept.name.startswith("my_chats-")
    assert keep_upload(b"{broken", "my chats.jsonl", tmp_path / "data") == kept
    assert keep_upload(b"a,b\n", "t.csv.gz", tmp_path / "data").name.endswith(".csv.gz")


@pytest.mark.parametrize(
    ("data", "name", "said"), [(b"", "a.jsonl", "empty"), (b"x", "a.exe", "not a supported file type")]
)
def test_what_is_no_data_set_is_not_kept(data: bytes, name: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=said):
        keep_upload(data, name, tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_an_upload_beyond_the_limit_is_refused_with_the_way_around(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="Put the file into"):
        keep_upload(b"x" * (MAX_UPLOAD_BYTES + 1), "a.jsonl", tmp_path / "data")


def test_another_file_under_the_same_eight_digits_is_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    first = keep_upload(b"{}\n", "a.jsonl", folder)
    first.write_text("another")
    second = keep_upload(b"{}\n", "a.jsonl", folder)
    assert second != first
    assert first.read_text() == "another"


def test_a_packed_upload_is_unpacked_once_apart_and_refused_where_it_would_fill_a_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = gzip.compress(b'{"text": "a"}\n' * 1000)
    assert keep_upload(packed, "a.jsonl.gz", tmp_path / "data").read_bytes() == packed
    with pytest.raises(DataError, match="cut off or is damaged"):
        keep_upload(packed[:-20], "b.jsonl.gz", tmp_path / "data")
    monkeypatch.setattr(unread_uploads, "MOST_UNPACKED_BYTES", 5000)
    (tmp_path / "c.gz").write_bytes(packed)
    with pytest.raises(DataError, match="unpacks to more than"):
        unread_uploads.refuse_too_much(str(tmp_path / "c.gz"), "c.gz")
    assert len(list((tmp_path / "data").iterdir())) == 1
