"""An export while it is made: beside its place, under a name of its own, and gone where it is not finished."""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lora_backend.installation import Installation
from lora_backend.preflight.export_place import ExportPlace
from lora_backend.runs.history.replaced_adapters import publishing
from lora_backend.runs.history.replaced_exports import ExportBin

FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
LEFT_OVER = re.compile(r"\..{0,200}\.flightdeck-part-[0-9a-f]{8}", re.DOTALL)
"""Name of a folder in which an export is made. Its process holds a lock on it as long as it lives."""


@contextmanager
def staging(place: Path) -> Iterator[Path]:
    """A new folder on the same file system as `place`; gone with all that is in it at the end, whatever happens.

    What a process that was killed has left there is removed first: nobody holds its lock any more.
    """
    place.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(place.parent)
    folder, lock = _locked_folder(place)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def remove_leftovers(folder: Path) -> list[Path]:
    """Remove the unfinished exports in `folder` whose process is gone; those that were there."""
    gone = []
    for path in sorted(folder.iterdir()):
        if not LEFT_OVER.fullmatch(path.name) or path.is_symlink() or not path.is_dir():
            continue
        with suppress(OSError):  # held by its process, or gone meanwhile
            lock = os.open(path, FLAGS)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(path)
                gone.append(path)
            finally:
                os.close(lock)
    return gone


def put(made: Path, place: ExportPlace, job_id: str, installation: Installation) -> None:
    """Give what was made its final name, by one rename; what stands there goes to the bin first.

    `made` lies on the same file system, all of it on the disk. Raises `OSError`; then what stood there stands there still.
    """
    _flush(made)
    with publishing(installation.workspace):
        if place.standing == "nothing":
            if place.path.is_dir():  # an empty one
                place.path.rmdir()
            made.rename(place.path)
            return
        trash = ExportBin(installation)
        binned = trash.put(place.path, job_id)
        try:
            made.rename(place.path)
        except BaseException:
            trash.take_back(binned)
            raise


def _locked_folder(place: Path) -> tuple[Path, int]:
    while True:
        folder = place.with_name(f".{place.name[:40]}.flightdeck-part-{secrets.token_hex(4)}")
        folder.mkdir()
        lock = os.open(folder, FLAGS)
        with suppress(OSError):  # a file system without locks: then nobody takes it for a leftover either
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _is_still(folder, lock):
            return folder, lock
        os.close(lock)  # another export took it for a leftover before it was locked


def _is_still(folder: Path, lock: int) -> bool:
    try:
        return os.path.samestat(os.fstat(lock), folder.stat())
    except FileNotFoundError:
        return False


def _flush(made: Path) -> None:
    """See that all bytes are on the disk before the name is: after a power cut the export is whole as well."""
    for path in [made, *made.rglob("*")] if made.is_dir() else [made]:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
