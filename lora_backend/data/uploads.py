"""Take a data set that comes through the browser: checked, limited in size, kept under its content's hash."""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from lora_backend.atomic import write_atomic
from lora_backend.bounded import open_regular
from lora_backend.data.rows import parse_dataset
from lora_backend.data.summary import INLINE_BYTES, reading_of
from lora_backend.errors import DataError
from lora_backend.i18n import N_

MAX_UPLOAD_BYTES = 50 * 2**20
"""50 MiB: some hundred thousand chats. A larger file is put into a data root by hand."""
STAGED = ".incoming-"
"""Begins the names of files that are not checked yet."""
STALE_AFTER_S = 3600.0
TELL_EVERY_S = 0.2


def store_upload(
    data: bytes, name: str, root: Path, on_progress: Callable[[float], None] = lambda _: None
) -> tuple[Path, int]:
    """Check `data` as a data set and keep it in `root`: where, and how many rows. Raises `DataError`.

    The same content twice is one file. A large one is read in a process of its own; `on_progress` hears how far that
    is, and whoever ends the wait there finds the same reading when it asks again.
    """
    if len(data) > MAX_UPLOAD_BYTES:
        raise DataError(
            N_("{file} has {size} bytes; an upload has at most {limit}. Put the file into {root} and name it there."),
            file=name,
            size=len(data),
            limit=MAX_UPLOAD_BYTES,
            root=str(root),
        )
    sha256 = hashlib.sha256(data).hexdigest()
    target = _place(root, _stem(name), sha256)
    if len(data) <= INLINE_BYTES:
        num_rows = len(parse_dataset(data, name).rows)
        root.mkdir(parents=True, exist_ok=True)
        target = root.resolve() / target.name
        write_atomic(target, data)
        return target, num_rows
    root.mkdir(parents=True, exist_ok=True)
    target = root.resolve() / target.name
    return target, _read_staged(data, name, sha256, target, on_progress)


def _read_staged(data: bytes, name: str, sha256: str, target: Path, on_progress: Callable[[float], None]) -> int:
    """Rows of a large file, which is at `target` afterwards, or nowhere."""
    staged = target.with_name(f"{STAGED}{sha256[:32]}")
    _sweep(target.parent)
    if not staged.is_file() or staged.stat().st_size != len(data):
        write_atomic(staged, data)
    reading = reading_of(staged, name=name)
    assert reading
    try:
        while (found := reading.wait(TELL_EVERY_S)) is None:
            on_progress(reading.fraction)
        if found.sha256 != sha256:
            raise DataError(N_("{file} was changed while it was read. Upload it again."), file=name)
    except DataError:
        staged.unlink(missing_ok=True)
        raise
    with suppress(FileNotFoundError):  # another session uploads the same, and was first
        staged.replace(target)
    return found.num_rows


def _sweep(root: Path) -> None:
    """Remove what nobody came back for."""
    for path in root.glob(f"{STAGED}*"):
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > STALE_AFTER_S:
                path.unlink()


def _stem(name: str) -> str:
    stem = re.sub(r"[^\w.-]+", "_", Path(name).stem).encode("utf-8", "ignore")[:60].decode("utf-8", "ignore")
    return stem.strip("._") or "data"


def _place(root: Path, stem: str, sha256: str) -> Path:
    """Under eight digits of the hash; they can be made to agree, so under all of it where another file has that name."""
    short = root / f"{stem}-{sha256[:8]}.jsonl"
    if not os.path.lexists(short):
        return short
    try:
        with open_regular(short, follow=False) as file:
            is_same = hashlib.file_digest(file, "sha256").hexdigest() == sha256
    except OSError:
        is_same = False
    return short if is_same else root / f"{stem}-{sha256}.jsonl"
