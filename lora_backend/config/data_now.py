"""The bytes that a config's data sets have here and now."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lora_backend.config.named_data import trained_on
from lora_backend.data.content_hash import sha256_of_set, sha256_together
from lora_backend.errors import DataError
from lora_backend.installation import path_of


def sha256_now(values: Mapping[str, Any], may_read: Callable[[Path], bool] = lambda _: True) -> str | None:
    """One hash for all sets that `values` train on; None where one of them is not here, cannot be read, or may not be."""
    paths = [path_of(named.path) for named in trained_on(values)]
    readable = [path for path in paths if path is not None and path.exists() and may_read(path)]
    if not readable or len(readable) < len(paths):
        return None
    try:
        return sha256_together([sha256_of_set(path) for path in readable])
    except DataError:
        return None
