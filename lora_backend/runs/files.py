"""A run's JSON files as they are read and locked: half a file is as good as none, and two writers take turns."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

FORMAT = 1
"""Of every file of a run; a newer one was written by a newer version."""
LOCK_TIMEOUT_S = 5.0
"""A writer that was stopped in the middle (SIGSTOP, a debugger) holds up the others no longer than this."""


def read_json(path: Path) -> dict[str, Any] | None:
    """The object in `path`; None where there is none, or not a whole one."""
    try:
        loaded = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return loaded if isinstance(loaded, dict) else None


def is_newer(data: dict[str, Any]) -> bool:
    """Whether a newer version than this wrote it."""
    found = data.get("format", FORMAT)
    return not isinstance(found, int) or found > FORMAT


def read_jsonl(path: Path) -> Iterator[dict[str, Any]]:
    """Every line that is an object; half a line is left out."""
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError:
        return
    for line in lines:
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):  # blank, or being written
            continue
        if isinstance(row, dict):
            yield row


def append_jsonl(path: Path, row: dict[str, Any]) -> None:
    """Add one line."""
    with path.open("ab+") as file:
        line = json.dumps({"format": FORMAT, **row}) + "\n"
        if file.tell():  # behind half a line that a crash left, on a line of its own
            file.seek(-1, 2)
            line = line if file.read(1) == b"\n" else f"\n{line}"
        file.write(line.encode("utf-8"))


@contextmanager
def lock_file(path: Path) -> Iterator[None]:
    """Let no other writer in that asks for the same lock. It ends with the process that holds it.

    Where no lock can be had (a full disk, a folder that is not writable) the write that follows says so itself.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
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
