"""The bytes that a config's data sets have here and now."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lora_backend.config.named_data import trained_on
from lora_backend.data.content_hash import sha256_together
from lora_backend.data.row_file import sha256_of_rows
from lora_backend.errors import DataError
from lora_backend.installation import path_of


def sha256_now(values: Mapping[str, Any], may_read: Callable[[Path], bool] = lambda _: True) -> str | None:
    """One hash for all sets that `values` train on; None where one of them is not here, cannot be read, or may not be."""
    sets = [(path_of(named.path), named.split) for named in trained_on(values)]
    readable = [(path, split) for path, split in sets if path is not None and path.exists() and may_read(path)]
    if not readable or len(readable) < len(sets):
        return None
    try:
        return sha256_together([sha256_of_rows(path, split) for path, split in readable])
    except DataError:
        return None
