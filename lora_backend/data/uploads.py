"""Take a data set that comes through the browser: checked, limited in size, kept under its content's hash."""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from lora_backend.atomic import write_atomic
from lora_backend.bounded import open_regular
from lora_backend.data.local_files import ending_of
from lora_backend.data.read_as import AS_FOUND, ReadAs
from lora_backend.data.summary import Summary, reading_of, summary_of
from lora_backend.errors import DataError
from lora_backend.i18n import N_

MAX_UPLOAD_BYTES = 50 * 2**20
"""50 MiB: some hundred thousand chats. A larger file is put into a data root by hand."""
MOST_UNPACKED_BYTES = 2 * 2**30
"""That an upload may unpack to."""
STAGED = ".incoming-"
"""Begins the names of files that are not checked yet."""
STALE_AFTER_S = 3600.0
TELL_EVERY_S = 0.2


def store_upload(
    data: bytes,
    name: str,
    root: Path,
    on_progress: Callable[[float], None] = lambda _: None,
    *,
    kept: Path | None = None,
    read_as: ReadAs = AS_FOUND,
) -> tuple[Path, int]:
    """Check `data` as a data set and keep it in `root`: where, and how many good rows. Raises `DataError`.

    The same content twice is one file. A large one is read in a process of its own; `on_progress` hears how far that
    is, and whoever ends the wait there finds the same reading when it asks again. `kept`: a folder for what is read of
    its rows. What its name says nothing of is taken for JSONL.
    """
    if len(data) > MAX_UPLOAD_BYTES:
        raise DataError(
            N_("{file} has {size} bytes; the upload limit is {limit}. Put the file into {root} and name it there."),
            file=name,
            size=len(data),
            limit=MAX_UPLOAD_BYTES,
            root=str(root),
        )
    ending = ending_of(name) or ".jsonl"
    is_new = not root.exists()
    root.mkdir(parents=True, exist_ok=True)
    try:
        return _stored(data, name, ending, root, on_progress, kept, replace(read_as, most_bytes=MOST_UNPACKED_BYTES))
    except (DataError, OSError):
        if is_new:
            with suppress(OSError):
                root.rmdir()
        raise


def _stored(
    data: bytes,
    name: str,
    ending: str,
    root: Path,
    on_progress: Callable[[float], None],
    kept: Path | None,
    read_as: ReadAs,
) -> tuple[Path, int]:
    """Where it is, and how many rows; it is nowhere where a row is wrong."""
    sha256 = hashlib.sha256(data).hexdigest()
    target = root.resolve() / _place(root, _stem(name, ending), sha256, ending).name
    staged = target.with_name(f"{STAGED}{sha256[:32]}{ending}")
    _sweep(root)
    if not staged.is_file() or staged.stat().st_size != len(data):
        write_atomic(staged, data)
    try:
        found = _read(staged, name, on_progress, kept, read_as)
        if found.sha256 != sha256:
            raise DataError(N_("{file} changed while it was being read. Upload it again."), file=name)
    except DataError:
        staged.unlink(missing_ok=True)
        raise
    with suppress(FileNotFoundError):  # another session uploads the same, and was first
        staged.replace(target)
    return target, found.num_rows


def _read(staged: Path, name: str, on_progress: Callable[[float], None], kept: Path | None, read_as: ReadAs) -> Summary:
    reading = reading_of(staged, name=name, kept=kept, read_as=read_as)
    if reading is None:
        return summary_of(staged, name=name, kept=kept, read_as=read_as)
    while (found := reading.wait(TELL_EVERY_S)) is None:
        on_progress(reading.fraction)
    return found


def _sweep(root: Path) -> None:
    """Remove what nobody came back for."""
    for path in root.glob(f"{STAGED}*"):
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > STALE_AFTER_S:
                path.unlink()


def _stem(name: str, ending: str) -> str:
    own = Path(name).name
    own = own[: -len(ending)] if own.lower().endswith(ending) else Path(own).stem
    stem = re.sub(r"[^\w.-]+", "_", own).encode("utf-8", "ignore")[:60].decode("utf-8", "ignore")
    return stem.strip("._") or "data"


def _place(root: Path, stem: str, sha256: str, ending: str) -> Path:
    """Under eight digits of the hash; they can be made to agree, so under all of it where another file has that name."""
    short = root / f"{stem}-{sha256[:8]}{ending}"
    if not os.path.lexists(short):
        return short
    try:
        with open_regular(short, follow=False) as file:
            is_same = hashlib.file_digest(file, "sha256").hexdigest() == sha256
    except OSError:
        is_same = False
    return short if is_same else root / f"{stem}-{sha256}{ending}"
