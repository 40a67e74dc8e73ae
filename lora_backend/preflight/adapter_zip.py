"""An adapter's files as one archive in memory, for a browser to download: what PEFT loads, and nothing that lies beside it."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

from lora_backend.bounded import open_regular
from lora_backend.preflight.adapter_files import adapter_files

MOST_ZIPPED_BYTES = 256 * 2**20
"""What is held in memory at once at most; larger ones are exported into a file."""
_SINCE = (1980, 1, 1, 0, 0, 0)
"""One date for all, so that the same files give the same bytes."""


def zipped_adapter(adapter: Path) -> io.BytesIO:
    """The archive of a folder without links. Raises `OSError` where a file cannot be read."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:  # weights do not shrink
        for path in adapter_files(adapter).kept:
            entry = zipfile.ZipInfo(path.name, date_time=_SINCE)
            entry.external_attr = 0o644 << 16
            with open_regular(path, follow=False) as read:
                archive.writestr(entry, read.read())
    packed.seek(0)
    return packed
