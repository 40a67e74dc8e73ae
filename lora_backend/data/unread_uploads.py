"""Keep a file of rows that comes through the browser before anybody has looked into it: to show what is wrong with it."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
from pathlib import Path

from lora_backend import outside
from lora_backend.atomic import write_atomic
from lora_backend.bounded import open_regular
from lora_backend.data.local_files import ENDINGS, ending_of
from lora_backend.data.unpacking import open_unpacked, packing_of
from lora_backend.data.uploads import MAX_UPLOAD_BYTES, MOST_UNPACKED_BYTES, STAGED
from lora_backend.errors import DataError
from lora_backend.formats import size
from lora_backend.i18n import N_

READ_BYTES = 2**20


def keep_upload(data: bytes, name: str, root: Path) -> Path:
    """Keep `data` in `root` under its name and its content's hash; the same content twice is one file. Raises `DataError`."""
    ending = ending_of(name)
    if not ending:
        raise DataError(
            N_("{file} is not a supported file type. Upload one of {endings}."),
            file=name,
            endings=", ".join(ENDINGS),
        )
    if not data:
        raise DataError(N_("{file} is empty."), file=name)
    if len(data) > MAX_UPLOAD_BYTES:
        raise DataError(
            N_("{file} is {size}; the upload limit is {limit}. Put the file into {root} and choose it there."),
            file=name,
            size=size(len(data)),
            limit=size(MAX_UPLOAD_BYTES),
            root=str(root),
        )
    sha256 = hashlib.sha256(data).hexdigest()
    stem = re.sub(r"[^\w.-]+", "_", Path(name).name[: -len(ending)]).encode("utf-8", "ignore")[:60]
    stem_text = stem.decode("utf-8", "ignore").strip("._") or "data"
    root.mkdir(parents=True, exist_ok=True)
    short = root.resolve() / f"{stem_text}-{sha256[:8]}{ending}"
    target = short if _is_free_or_same(short, sha256) else short.with_name(f"{stem_text}-{sha256}{ending}")
    if packing_of(data[:4]) is None:
        write_atomic(target, data)
        return target
    staged = target.with_name(f"{STAGED}{secrets.token_hex(16)}{ending}")
    write_atomic(staged, data)
    try:
        outside.call(f"{__name__}:refuse_too_much", str(staged), name)
        staged.replace(target)
    finally:
        staged.unlink(missing_ok=True)
    return target


def refuse_too_much(path: str, name: str) -> None:
    """What a process of its own does with a packed upload. Raises `DataError` for one that was made to fill a disk, or
    breaks off."""
    unpacked = 0
    with open_unpacked(Path(path)) as stream:
        while block := stream.read(READ_BYTES):
            unpacked += len(block)
            if unpacked > MOST_UNPACKED_BYTES:
                raise DataError(
                    N_("{file} unpacks to more than {limit}. Unpack it yourself, and put the file into a data root."),
                    file=name,
                    limit=size(MOST_UNPACKED_BYTES),
                )


def _is_free_or_same(path: Path, sha256: str) -> bool:
    """Eight digits of a hash can be made to agree."""
    if not os.path.lexists(path):
        return True
    try:
        with open_regular(path, follow=False) as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == sha256
    except OSError:
        return False
