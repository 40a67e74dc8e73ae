"""What is read of a file from anywhere: a regular one, within its limit, and never waited for."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from lora_backend import bounded
from lora_backend.bounded import load_json, open_regular, read_bytes, read_json, read_text
from lora_backend.errors import FileRefusedError


def test_a_file_of_just_the_limit_is_read_and_one_byte_more_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"x" * 1024)
    assert len(read_bytes(file, 1024)) == 1024
    with pytest.raises(FileRefusedError, match=r"file is larger than 1023 B, the limit for this kind of file\. Check"):
        read_bytes(file, 1023)


def test_a_pipe_a_socket_and_a_device_are_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        for path, kind in (
            (tmp_path / "pipe", "a named pipe"),
            (tmp_path / "socket", "a socket"),
            (Path("/dev/zero"), "a device"),
        ):
            with pytest.raises(FileRefusedError, match=rf"{path} is {kind}, not a file\. Name a regular file\."):
                read_bytes(path, 10)


def test_a_pipe_that_took_the_place_of_a_file_after_the_look_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, pipe = tmp_path / "file", tmp_path / "pipe"
    file.write_bytes(b"x")
    os.mkfifo(pipe)
    opened = os.open
    monkeypatch.setattr(os, "open", lambda path, flags: opened(pipe, flags))
    with pytest.raises(FileRefusedError, match="named pipe"):
        open_regular(file)


def test_a_file_that_does_not_say_how_long_it_is_is_read_no_further_than_the_limit() -> None:
    """Below /proc a regular file says that it has no bytes."""
    with pytest.raises(FileRefusedError, match="larger than 100 B"):
        read_bytes(Path("/proc/self/status"), 100)


def test_what_is_not_there_or_a_folder_is_what_the_system_says(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_bytes(tmp_path / "nothing", 10)
    with pytest.raises(IsADirectoryError, match=str(tmp_path)):
        read_bytes(tmp_path, 10)


def test_text_that_is_not_utf_8_is_a_value_error(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"\xff")
    with pytest.raises(ValueError, match="utf-8"):
        read_text(file, 10)


def test_json_with_a_mark_of_its_encoding_is_read(tmp_path: Path) -> None:
    file = tmp_path / "file.json"
    file.write_bytes(b'\xef\xbb\xbf{"a": 1}')
    assert read_json(file) == {"a": 1}


def test_json_of_a_million_values_is_read_and_one_more_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded, "MAX_JSON_VALUES", 1000)
    most = b"[" + b",".join([b"1"] * 1000) + b"]"
    assert len(load_json(most, "file")) == 1000
    with pytest.raises(FileRefusedError, match="file contains more than 1,000 values"):
        load_json(most[:-1] + b",1]", "file")
    with pytest.raises(FileRefusedError, match="values"):
        load_json(b"[" + b"[],{}," * 501 + b"1]", "file")


def test_json_that_is_nested_too_deeply_is_no_json() -> None:
    with pytest.raises(ValueError, match="nested too deeply"):
        load_json(b"[" * 100_000, "file")
