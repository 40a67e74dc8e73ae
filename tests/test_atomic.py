"""A file is the old one or the new one, whatever happens in between."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from lora_backend.atomic import write_atomic, write_json
from tests.python import limited


def test_text_and_bytes_are_written_as_they_are(tmp_path: Path) -> None:
    write_atomic(tmp_path / "a", "é\r\n\n")
    assert (tmp_path / "a").read_bytes() == "é\r\n\n".encode()
    write_atomic(tmp_path / "a", b"\0\xff")
    assert (tmp_path / "a").read_bytes() == b"\0\xff"
    assert os.listdir(tmp_path) == ["a"]  # noqa: PTH208


def test_json_keeps_its_words_readable_and_its_format(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"name": "秩", "format": 2})
    assert "秩" in (tmp_path / "a.json").read_text("utf-8")
    assert json.loads((tmp_path / "a.json").read_text("utf-8")) == {"name": "秩", "format": 2}
    write_json(tmp_path / "a.json", {})
    assert json.loads((tmp_path / "a.json").read_text("utf-8")) == {"format": 1}


def test_half_a_surrogate_pair_is_kept_in_json(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"path": "a\ud800\\b"})
    assert json.loads((tmp_path / "a.json").read_text("utf-8"))["path"] == "a\ud800\\b"


def test_what_cannot_be_written_leaves_the_old_file_alone(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"old": 1})
    with pytest.raises(ValueError):
        write_atomic(tmp_path / "a.json", "\ud800")
    assert json.loads((tmp_path / "a.json").read_text()) == {"format": 1, "old": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_a_disk_that_is_full_leaves_the_old_file_and_no_rest(tmp_path: Path) -> None:
    """The limit of a file's size stands in for the disk's end."""
    (tmp_path / "a").write_text("old")
    script = (
        "from pathlib import Path; from lora_backend.atomic import write_atomic\n"
        f"try: write_atomic(Path({str(tmp_path / 'a')!r}), 'x' * 5000)\n"
        "except OSError: print('refused')\n"
    )
    said = limited(script, file_bytes=1000)
    assert said == "refused\n"
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a": "old"}


def test_a_folder_that_is_not_there_is_an_error_and_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_atomic(tmp_path / "none/a", "x")
    assert not (tmp_path / "none").exists()


def test_a_reader_never_sees_half_a_file(tmp_path: Path) -> None:
    path, done = tmp_path / "a.json", threading.Event()
    write_json(path, {"n": 0, "fill": "x" * 10_000})
    broken: list[str] = []

    def read() -> None:
        while not done.is_set():
            try:
                json.loads(path.read_text())
            except (OSError, ValueError) as error:
                broken.append(repr(error))

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(100):
        write_json(path, {"n": number, "fill": "x" * (number * 200)})
    done.set()
    reader.join()
    assert broken == []


def test_a_writer_that_is_killed_leaves_a_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    script = (
        "from pathlib import Path; from lora_backend.atomic import write_json\n"
        f"n = 0\nwhile True:\n    n += 1\n    write_json(Path({str(path)!r}), {{'n': n, 'fill': 'x' * 200000}})\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script])
    deadline = time.monotonic() + 20
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert json.loads(path.read_text())["n"] >= 1
