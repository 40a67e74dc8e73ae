"""What a check asks of a file of rows. A large one is read once, in a process of its own, and what it says is kept.

Two are read at a time. Whoever asks for one that is being read waits for the same reading.
"""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, wait
from concurrent.futures import TimeoutError as StillReadingError
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from lora_backend import outside
from lora_backend.data.example_file import open_examples
from lora_backend.data.question_rows import digested, question_rows
from lora_backend.data.read_as import AS_FOUND, ReadAs
from lora_backend.data.source_files import find_source, is_plain_text
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
TRY_AGAIN_AFTER_S = 30.0


@dataclass(frozen=True)
class Summary:
    """Of a data set with no more bad rows than it may have."""

    format: str
    """Its form, by its word in `data_format`; `questions`, for a file of these."""
    num_rows: int
    """Good ones."""
    sha256: str
    """Of the bytes of its files."""
    columns: tuple[str, ...]
    """Keys of the rows, in the order in which they come; of very many the first."""
    read_from: tuple[tuple[str, str], ...] = ()
    """Pairs of a part of the form and the column that it is read from, where that is not the part's own name."""
    has_chats: bool = True
    """Whether a chat template writes its rows."""
    num_bad_rows: int = 0
    """Left out."""
    num_duplicates: int = 0
    """Rows that an earlier one is equal to."""
    split: str | None = None
    """Which one of `splits` it is."""
    splits: tuple[str, ...] = ()


def summarize(
    path: Path, kind: Kind = "dataset", name: str | None = None, kept: Path | None = None, read_as: ReadAs = AS_FOUND
) -> Summary:
    """Look at every row. `DataError` says which row is wrong first, of a file that is called `name`."""
    if kind == "questions":
        return _questions(path, name or path.name)
    with _some_folder(kept) as folder:
        found = open_examples(
            path, folder, read_as.data_format, dict(read_as.data_columns), read_as.max_bad_rows, outside.progress,
            split=read_as.split, most_bytes=read_as.most_bytes, name=name,
        )  # fmt: skip
        source = found.rows.source
        return Summary(
            format=found.found_form.form,
            num_rows=len(found),
            sha256=found.sha256,
            columns=tuple(found.scan.columns),
            read_from=tuple(found.found_form.renamed.items()),
            has_chats=found.scan.has_chats,
            num_bad_rows=found.num_bad_rows,
            num_duplicates=found.num_duplicates,
            split=source.split,
            splits=source.splits,
        )


@contextmanager
def _some_folder(kept: Path | None) -> Iterator[Path]:
    """`kept`, or a folder that is gone afterwards."""
    if kept is not None:
        yield kept
        return
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def _questions(path: Path, name: str) -> Summary:
    size_bytes, digest, told_at, num_rows = 1, hashlib.sha256(), 0.0, 0
    columns: dict[str, None] = {}
    with open_rows(path) as file:
        size_bytes = max(os.fstat(file.fileno()).st_size, 1)
        for row in question_rows(digested(file, digest), name):
            num_rows += 1
            if len(columns) < MOST_COLUMNS:
                columns |= dict.fromkeys(row)
            if (now := time.monotonic()) - told_at > TELL_EVERY_S:
                told_at = now
                outside.progress(min(file.tell() / size_bytes, 1.0))
    return Summary("questions", num_rows, digest.hexdigest(), tuple(columns)[:MOST_COLUMNS])


def summarize_apart(path: str, kind: Kind, name: str, kept: str | None, read_as: dict[str, Any]) -> dict[str, Any]:
    """What the process of its own does: `summarize`, as JSON. What it finds of rows is kept by their content."""
    return asdict(summarize(Path(path), kind, name, Path(kept) if kept else None, ReadAs.from_json(read_as)))


class Reading:
    """One reading of a large file, under way or done."""

    def __init__(self, path: Path, kind: Kind, name: str, size_bytes: int, kept: Path | None, read_as: ReadAs) -> None:
        self.size_bytes = size_bytes
        self.fraction = 0.0
        """How much is read, from 0 to 1."""
        self.failed_at: float | None = None
        """When it was given up for a reason that may pass: a machine that was too busy, no room for a process."""
        self._future: Future[Summary] = Future()
        # A daemon, so that the program ends without waiting for it; the process that it started ends with it.
        threading.Thread(target=self._run, args=(path, kind, name, kept, read_as), daemon=True).start()

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

    def _run(self, path: Path, kind: Kind, name: str, kept: Path | None, read_as: ReadAs) -> None:
        try:
            with _slots:
                self._future.set_result(self._read(path, kind, name, kept, read_as))
        except BaseException as error:
            self._future.set_exception(error)

    def _read(self, path: Path, kind: Kind, name: str, kept: Path | None, read_as: ReadAs) -> Summary:
        deadline_s = LEAST_DEADLINE_S + self.size_bytes / SLOWEST_BYTES_PER_S
        try:
            arguments = (str(path), kind, name, str(kept) if kept else None, asdict(read_as))
            found = outside.call(
                "lora_backend.data.summary:summarize_apart", *arguments, deadline_s=deadline_s, on_progress=self._tell
            )
        except outside.OutsideError as error:
            self.failed_at = time.monotonic()
            raise DataError(
                N_(
                    "{file} could not be read completely: {reason} Split it into smaller files, or try again when the machine is less busy."
                ),
                file=name,
                reason=error.message,
            ) from error
        except OSError as error:
            self.failed_at = time.monotonic()
            raise DataError(
                N_("The data set {path} cannot be read: {reason}."), path=str(path), reason=error.strerror or str(error)
            ) from error
        return _from_json(found)

    def _tell(self, fraction: float) -> None:
        self.fraction = fraction


_slots = threading.Semaphore(2)
_lock = threading.Lock()
_readings: dict[tuple[object, ...], Reading] = {}


def _from_json(found: dict[str, Any]) -> Summary:
    pairs = tuple((part, column) for part, column in found["read_from"])
    lists = {"columns": tuple(found["columns"]), "splits": tuple(found["splits"]), "read_from": pairs}
    return Summary(**{**found, **lists})


def reading_of(
    path: Path,
    kind: Kind = "dataset",
    name: str | None = None,
    kept: Path | None = None,
    read_as: ReadAs = AS_FOUND,
) -> Reading | None:
    """The reading of a large set, begun where nobody has; None for a small one, and for what is none.

    The same files, by their times and sizes, are read once while this process lives; the same content once, with a
    folder in which it is `kept`. What has to be unpacked is large whatever its size: who knows what is in it.
    """
    files = _files(path, kind, read_as)
    if files is None:
        return None
    size_bytes = sum(found.st_size for _, found in files)
    if size_bytes <= INLINE_BYTES and all(is_plain for is_plain, _ in files):
        return None
    stamp = (_stamp(files), kind, replace(read_as, most_bytes=0))
    with _lock:
        reading = _readings.get(stamp)
        has_passed = (
            reading is not None
            and reading.failed_at is not None
            and time.monotonic() - reading.failed_at > TRY_AGAIN_AFTER_S
        )
        if reading is None or has_passed:
            _readings.pop(stamp, None)
            reading = _readings[stamp] = Reading(path, kind, name or path.name, size_bytes, kept, read_as)
            for old in [key for key, other in _readings.items() if other.is_done][: max(len(_readings) - MOST_KEPT, 0)]:
                del _readings[old]
        return reading


def summary_of(
    path: Path,
    kind: Kind = "dataset",
    name: str | None = None,
    kept: Path | None = None,
    read_as: ReadAs = AS_FOUND,
) -> Summary:
    """What a data set says, however large it is. Raises `DataError`."""
    reading = reading_of(path, kind, name, kept, read_as)
    if reading is None:
        files = _files(path, kind, read_as)
        if files is None:
            return summarize(path, kind, name, kept, read_as)  # which says what is wrong
        return _small(path, kind, name, kept, read_as, _stamp(files))
    found = reading.wait()
    assert found
    return found


@lru_cache(maxsize=64)
def _small(
    path: Path, kind: Kind, name: str | None, kept: Path | None, read_as: ReadAs, stamp: tuple[int, ...]
) -> Summary:
    return summarize(path, kind, name, kept, read_as)


def _files(path: Path, kind: Kind, read_as: ReadAs) -> list[tuple[bool, os.stat_result]] | None:
    """Whether each file is text that needs no unpacking, and what the system says of it; None where there is none."""
    try:
        if kind == "questions" or not path.is_dir():
            found = path.stat()
            if not stat.S_ISREG(found.st_mode):
                return None
            return [(kind == "questions" or is_plain_text(path), found)]
        return [(is_plain_text(file.path), file.path.stat()) for file in find_source(path, read_as.split).files]
    except (OSError, ValueError):  # among these `DataError`
        return None


def _stamp(files: list[tuple[bool, os.stat_result]]) -> tuple[int, ...]:
    """The same while the files are."""
    return tuple(
        number for _, found in files for number in (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
    )
