"""Read a file that may have come from anywhere: a regular one, and no more of it than its reader can take."""

from __future__ import annotations

import codecs
import errno
import json
import os
import stat
from io import BufferedReader, FileIO
from pathlib import Path
from typing import Any

from lora_backend.errors import FileRefusedError
from lora_backend.formats import size
from lora_backend.i18n import N_, Message
from lora_backend.symlinks import open_unlinked

MAX_JSON_BYTES = 16 * 2**20
"""Of a JSON file of a model, an adapter or a run; the longest list of shards that is published has 9 MB."""
MAX_JSON_VALUES = 1_000_000
"""Values in one JSON text: about 100 MB and half a second, whatever they are."""
KINDS = {
    stat.S_IFIFO: N_("a named pipe"),
    stat.S_IFSOCK: N_("a socket"),
    stat.S_IFCHR: N_("a device"),
    stat.S_IFBLK: N_("a device"),
}


def open_regular(path: Path, *, follow: bool = True) -> BufferedReader:
    """Open a regular file for reading. Raises `FileRefusedError` for any other kind, and `OSError` as `open` does.

    `follow` False: a link is refused too, in the place of the file or of its folder, as in the folder of a run.

    A pipe would be waited for without end, and a device never ends. The kind is asked before the file is opened, for
    to open a device may already do something, and again of what was opened, for the two need not be the same file.
    """
    _refuse_kind(path, os.stat(path, follow_symlinks=follow).st_mode)  # noqa: PTH116 - of thousands
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
    descriptor = os.open(path, flags) if follow else open_unlinked(path, flags)
    try:
        _refuse_kind(path, os.fstat(descriptor).st_mode)
        return BufferedReader(FileIO(descriptor))
    except BaseException:
        os.close(descriptor)
        raise


def read_bytes(path: Path, limit_bytes: int, *, follow: bool = True) -> bytes:
    """All of a regular file. Raises `FileRefusedError` for one with more than `limit_bytes`, and for any other kind.

    What the file's length says is not believed: one below `/proc` says 0 and may be endless, and a log grows.
    """
    with open_regular(path, follow=follow) as file:
        length = os.fstat(file.fileno()).st_size
        data = b"" if length > limit_bytes else file.read(limit_bytes + 1)
    if max(length, len(data)) > limit_bytes:
        raise too_large(path, limit_bytes)
    return data


def read_text(path: Path, limit_bytes: int, *, follow: bool = True) -> str:
    """The same as text. Raises `UnicodeDecodeError`, a `ValueError`, for what is not UTF-8."""
    return read_bytes(path, limit_bytes, follow=follow).decode("utf-8")


def read_json(path: Path, limit_bytes: int = MAX_JSON_BYTES, *, follow: bool = True) -> Any:
    """What a JSON file holds. Raises `FileRefusedError`, `OSError`, or `ValueError` for what is not JSON."""
    return load_json(read_bytes(path, limit_bytes, follow=follow), str(path))


def load_json(data: bytes, name: str) -> Any:
    """What JSON text holds. Raises `ValueError` for what is not JSON, however deep it is nested.

    `FileRefusedError` for more than a million values, which are counted before anything is made of them: 16 MB of
    `[],[],…` would become half a gigabyte of lists.
    """
    if sum(data.count(mark) for mark in (b",", b"[", b"{")) > MAX_JSON_VALUES:
        raise FileRefusedError(
            N_(
                "{path} contains more than {limit} values, the limit for this kind of file. Check that it is the right file."
            ),
            path=name,
            limit=f"{MAX_JSON_VALUES:,}",
        )
    try:
        return json.loads(data.removeprefix(codecs.BOM_UTF8).decode("utf-8"))
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def too_large(path: Path, limit_bytes: int) -> FileRefusedError:
    """The error for a file with more than `limit_bytes`."""
    return FileRefusedError(
        N_("{path} is larger than {limit}, the limit for this kind of file. Check that it is the right file."),
        path=str(path),
        limit=size(limit_bytes),
    )


def _refuse_kind(path: Path, mode: int) -> None:
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if kind := KINDS.get(stat.S_IFMT(mode)):
        raise FileRefusedError(
            N_("{path} is {kind}, not a file. Name a regular file."), path=str(path), kind=Message(kind)
        )
