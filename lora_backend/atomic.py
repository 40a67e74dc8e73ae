"""Write a file so that a reader, or the next start after a crash, sees the old content or the new, never half."""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from lora_backend.symlinks import naming, open_unlinked_folder


def write_atomic(path: Path, data: bytes | str) -> None:
    """Write beside `path`, flush to the disk, then replace. Raises `OSError` that names `path`, which then is as it was.

    A link in the place of the file is replaced; one in the place of its folder is refused with `LinkRefusedError`.
    """
    content = data.encode("utf-8") if isinstance(data, str) else data
    temporary = f".{path.name}.{secrets.token_hex(4)}"
    folder = open_unlinked_folder(path.parent)
    try:
        with naming(path), _new_file(temporary, folder) as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        with naming(path):
            os.replace(temporary, path.name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary, dir_fd=folder)
        raise
    finally:
        os.close(folder)


def _new_file(name: str, folder: int) -> IO[bytes]:
    return os.fdopen(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666, dir_fd=folder), "wb")


@contextmanager
def filling(folder: Path) -> Iterator[None]:
    """Make `folder` where it is not there, for the block to fill; a new one is gone again where there is no room for that."""
    is_new = not os.path.lexists(folder)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except OSError:
        if is_new:
            shutil.rmtree(folder, ignore_errors=True)
        raise


def write_json(path: Path, value: dict[str, Any]) -> None:
    """`value` as JSON with the format's number, by `write_atomic`."""
    text = json.dumps({"format": 1, **value}, ensure_ascii=False, indent=1, default=str) + "\n"
    write_atomic(path, text.encode("utf-8", "backslashreplace"))  # half a surrogate pair is `\\ud800`, in JSON too
