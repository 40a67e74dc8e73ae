"""Take a data set that comes through the browser: checked, limited in size, kept under its content's hash."""

from __future__ import annotations

import re
from pathlib import Path

from lora_backend.atomic import write_atomic
from lora_backend.data.rows import Dataset, parse_dataset
from lora_backend.errors import DataError
from lora_backend.i18n import N_

MAX_UPLOAD_BYTES = 50 * 2**20
"""50 MiB: some hundred thousand chats. A larger file is put into a data root by hand."""


def store_upload(data: bytes, name: str, root: Path) -> tuple[Path, Dataset]:
    """Check `data` as a data set and keep it in `root`. The same content twice is one file. Raises `DataError`."""
    if len(data) > MAX_UPLOAD_BYTES:
        raise DataError(
            N_("{file} has {size} bytes; an upload has at most {limit}. Put the file into {root} and name it there."),
            file=name,
            size=len(data),
            limit=MAX_UPLOAD_BYTES,
            root=str(root),
        )
    dataset = parse_dataset(data, name)
    stem = re.sub(r"[^\w.-]+", "_", Path(name).stem).encode("utf-8", "ignore")[:60].decode("utf-8", "ignore")
    stem = stem.strip("._") or "data"
    root.mkdir(parents=True, exist_ok=True)
    target = root.resolve() / f"{stem}-{dataset.sha256[:8]}.jsonl"
    write_atomic(target, data)
    return target, dataset
