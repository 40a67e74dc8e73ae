"""What a check asks of a file of rows. A large one is read once, in a process of its own, and what it says is kept.

Two are read at a time. Whoever asks for one that is being read waits for the same reading.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from concurrent.futures import Future, wait
from concurrent.futures import TimeoutError as StillReadingError
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from lora_backend import outside
from lora_backend.atomic import write_json
from lora_backend.bounded import read_json
from lora_backend.data.rows import dataset_rows, digested, question_rows
from lora_backend.data.unpacking import open_rows
from lora_backend.errors import DataError
from lora_backend.i18n import N_

Kind = Literal["dataset", "questions"]
INLINE_BYTES = 2**20
"""What is read in a few hundredths of a second is read at once; to start a process takes longer."""
SLOWEST_BYTES_PER_S, LEAST_DEADLINE_S = 2 * 2**20, 60.0
"""A disk that gives less is taken for one that hangs."""
TELL_EVERY_S = 0.2
MOST_COLUMNS = 100
MOST_KEPT = 64
RULES = 1
"""Raised when another row is good or bad than before: what was kept of a file by older rules is not believed."""
TRY_AGAIN_AFTER_S = 30.0


@dataclass(frozen=True)
class Summary:
    """Of a file in which every row is good."""

    format: str
    """`messages` or `prompt_completion`; `questions`, for a file of these."""
    num_rows: int
    sha256: str
    """Of the file's bytes."""
    columns: tuple[str, ...]
    """Keys of the rows, in the order in which they come; of very many the first."""


def summarize(path: Path, kind: Kind = "dataset", name: str | None = None) -> Summary:
    """Read a file row by row. `DataError` says which row is wrong first, of a file that is called `name`."""
    size_bytes, digest, told_at = max(path.stat().st_size, 1) if path.exists() else 1, hashlib.sha256(), 0.0
    num_rows, row_format = 0, "questions"
    columns: dict[str, None] = {}
    with open_rows(path) as file:
        lines = digested(file, digest)
        rows = (
            dataset_rows(lines, name or path.name)
            if kind == "dataset"
            else (("questions", row) for row in question_rows(lines, name or path.name))
        )
        for row_format, row in rows:  # noqa: B007 - it is the same for all
            num_rows += 1
            if len(columns) < MOST_COLUMNS:
                columns |= dict.fromkeys(row)
            if (now := time.monotonic()) - told_at > TELL_EVERY_S:
                told_at = now
                outside.progress(min(file.tell() / size_bytes, 1.0))
    return Summary(row_format, num_rows, digest.hexdigest(), tuple(columns)[:MOST_COLUMNS])


def summarize_once(path: str, kind: Kind, name: str, kept: str | None) -> dict[str, Any]:
    """What the process of its own does: `summarize`, unless `kept` has a file of the same content; as JSON."""
    if kept is None:
        return asdict(summarize(Path(path), kind, name))
    with open_rows(Path(path)) as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    card = Path(kept) / f"{sha256}-{kind}-{RULES}.json"
    try:
        found: dict[str, Any] = read_json(card)
    except (OSError, ValueError):
        found = asdict(summarize(Path(path), kind, name))
        if found["sha256"] == sha256:  # nobody wrote to it in between
            card.parent.mkdir(parents=True, exist_ok=True)
            write_json(card, found)
    return found


class Reading:
    """One reading of a large file, under way or done."""

    def __init__(self, path: Path, kind: Kind, name: str, size_bytes: int, kept: Path | None) -> None:
        self.size_bytes = size_bytes
        self.fraction = 0.0
        """How much is read, from 0 to 1."""
        self.failed_at: float | None = None
        """When it was given up for a reason that may pass: a machine that was too busy, no room for a process."""
        self._future: Future[Summary] = Future()
        # A daemon, so that the program ends without waiting for it; the process that it started ends with it.
        threading.Thread(target=self._run, args=(path, kind, name, kept), daemon=True).start()

    @property
    def is_done(self) -> bool:
        return self._future.done()

    def wait(self, seconds: float | None = None) -> Summary | None:
        """The summary, or None where it is not there within `seconds`. Raises `DataError`."""
        try:
            return self._future.result(seconds)
        except StillReadingError:
            return None

    def wait_a_moment(self, seconds: float) -> None:
        """Wait for the end, but no longer than that, whatever comes of it."""
        wait([self._future], timeout=seconds)

    def _run(self, path: Path, kind: Kind, name: str, kept: Path | None) -> None:
        try:
            with _slots:
                self._future.set_result(self._read(path, kind, name, kept))
        except BaseException as error:
            self._future.set_exception(error)

    def _read(self, path: Path, kind: Kind, name: str, kept: Path | None) -> Summary:
        deadline_s = LEAST_DEADLINE_S + self.size_bytes / SLOWEST_BYTES_PER_S
        try:
            arguments = (str(path), kind, name, str(kept) if kept else None)
            found = outside.call(
                "lora_backend.data.summary:summarize_once", *arguments, deadline_s=deadline_s, on_progress=self._tell
            )
        except outside.OutsideError as error:
            self.failed_at = time.monotonic()
            raise DataError(
                N_(
                    "{file} could not be read whole: {reason} Split it into smaller files, or try again when the machine is less busy."
                ),
                file=name,
                reason=error.message,
            ) from error
        except OSError as error:
            self.failed_at = time.monotonic()
            raise DataError(
                N_("The data set {path} cannot be read: {reason}."), path=str(path), reason=error.strerror or str(error)
            ) from error
        return Summary(found["format"], found["num_rows"], found["sha256"], tuple(found["columns"]))

    def _tell(self, fraction: float) -> None:
        self.fraction = fraction


_slots = threading.Semaphore(2)
_lock = threading.Lock()
_readings: dict[tuple[object, ...], Reading] = {}


def reading_of(path: Path, kind: Kind = "dataset", name: str | None = None, kept: Path | None = None) -> Reading | None:
    """The reading of a large file, begun where nobody has; None for a small one, and for what is no file.

    The same file, by its times and size, is read once while this process lives; the same content once, with a folder
    in which it is `kept`.
    """
    try:
        found = path.stat()
    except (OSError, ValueError):
        return None
    if found.st_size <= INLINE_BYTES:
        return None
    stamp = (*_stamp(found), kind)
    with _lock:
        reading = _readings.get(stamp)
        has_passed = (
            reading is not None
            and reading.failed_at is not None
            and time.monotonic() - reading.failed_at > TRY_AGAIN_AFTER_S
        )
        if reading is None or has_passed:
            _readings.pop(stamp, None)
            reading = _readings[stamp] = Reading(path, kind, name or path.name, found.st_size, kept)
            for old in [key for key, other in _readings.items() if other.is_done][: max(len(_readings) - MOST_KEPT, 0)]:
                del _readings[old]
        return reading


def summary_of(path: Path, kind: Kind = "dataset", name: str | None = None, kept: Path | None = None) -> Summary:
    """What a file of rows says, however large it is. Raises `DataError`."""
    reading = reading_of(path, kind, name, kept)
    if reading is None:
        try:
            return _small(path, kind, name, _stamp(path.stat()))
        except (OSError, ValueError) as error:
            if isinstance(error, DataError):
                raise
            return summarize(path, kind, name)  # which says what is wrong
    found = reading.wait()
    assert found
    return found


@lru_cache(maxsize=64)
def _small(path: Path, kind: Kind, name: str | None, stamp: tuple[int, ...]) -> Summary:
    return summarize(path, kind, name)


def _stamp(found: os.stat_result) -> tuple[int, ...]:
    """The same while a file is."""
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
