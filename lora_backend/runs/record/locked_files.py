"""A run's files as they are read, added to and locked: half a file is as good as none, and two writers take turns.

A run's folder may have been copied from anywhere, so no link in it is followed.
"""

from __future__ import annotations

import fcntl
import io
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from lora_backend import bounded
from lora_backend.bounded import open_regular
from lora_backend.symlinks import LinkRefusedError, naming, open_unlinked

FORMAT = 1
"""Of every file of a run; a newer one was written by a newer version."""
MAX_STATE_BYTES = 2 * 2**20
"""Of a file that says how a run stands, which is read again every second; a config has at most a quarter of it."""
MAX_REPORT_BYTES = bounded.MAX_JSON_BYTES
"""Of a record of every layer."""
MAX_LINES_BYTES, MAX_LINES = 64 * 2**20, 250_000
"""Of a file with a line for each logged step."""
LOCK_TIMEOUT_S = 5.0
"""A writer that was stopped in the middle (SIGSTOP, a debugger) holds up the others no longer than this."""


def read_json(path: Path, limit_bytes: int = MAX_STATE_BYTES) -> dict[str, Any] | None:
    """The object in `path`; None where there is none, not a whole one, or one that no run of ours writes."""
    try:
        loaded = bounded.read_json(path, limit_bytes, follow=False)
    except (OSError, ValueError):
        return None
    return loaded if isinstance(loaded, dict) else None


def is_newer(data: dict[str, Any]) -> bool:
    """Whether a newer version than this wrote it."""
    found = data.get("format", FORMAT)
    return not isinstance(found, int) or found > FORMAT


def read_lines(path: Path, *, follow: bool = False) -> bytes:
    """The lines of a file that grows; of a very long one the newest. Raises `OSError`."""
    with open_regular(path, follow=follow) as file:
        beyond = file.seek(0, os.SEEK_END) - MAX_LINES_BYTES
        file.seek(max(beyond, 0))
        data = file.read(MAX_LINES_BYTES)
    start = data.find(b"\n") + 1 if beyond > 0 else 0
    if data.count(b"\n", start) > MAX_LINES:
        start = len(data)
        for _ in range(MAX_LINES + 1):
            start = data.rfind(b"\n", 0, start)
        start += 1
    return data[start:] if start else data


def read_jsonl(path: Path, *, follow: bool = False) -> Iterator[dict[str, Any]]:
    """Every line that is an object, of a very long file the newest; half a line is left out."""
    try:
        lines = io.BytesIO(read_lines(path, follow=follow))
    except OSError:
        return
    for line in lines:
        try:
            row = bounded.load_json(line, str(path))
        except ValueError:  # blank, or being written
            continue
        if isinstance(row, dict):
            yield row


def open_to_append(path: Path) -> IO[bytes]:
    """The file, made where there is none; all that is written goes to its end. It can be read as well."""
    return os.fdopen(open_unlinked(path, os.O_RDWR | os.O_APPEND | os.O_CREAT), "ab+")


def append_jsonl(path: Path, row: dict[str, Any]) -> None:
    """Add one line."""
    with naming(path), open_to_append(path) as file:
        line = json.dumps({"format": FORMAT, **row}) + "\n"
        if file.tell():  # behind half a line that a crash left, on a line of its own
            file.seek(-1, 2)
            line = line if file.read(1) == b"\n" else f"\n{line}"
        file.write(line.encode("utf-8"))


@contextmanager
def lock_file(path: Path) -> Iterator[None]:
    """Let no other writer in that asks for the same lock. It ends with the process that holds it.

    Where no lock can be had (a full disk, a folder that is not writable) the write that follows says so itself.
    Raises `LinkRefusedError` for a link.
    """
    try:
        descriptor = open_unlinked(path, os.O_RDWR | os.O_CREAT)
    except LinkRefusedError:
        raise
    except OSError:
        yield
        return
    try:
        deadline = time.monotonic() + LOCK_TIMEOUT_S
        while not _locked(descriptor) and time.monotonic() < deadline:
            time.sleep(0.005)
        yield
    finally:
        os.close(descriptor)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return not isinstance(error, BlockingIOError)  # a file system without locks: nothing to wait for
    return True
