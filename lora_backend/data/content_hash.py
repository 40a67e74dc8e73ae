"""Which bytes a data set is made of: the hash of a file, of a folder's files, and of several sets together."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from lora_backend.data.rows import sha256_of_file


def sha256_of_set(path: Path) -> str:
    """Of a file's bytes; of a folder, of the names and bytes of all files in it. Raises `DataError` as reading does."""
    if not path.is_dir():
        return sha256_of_file(path)
    files = sorted(file for file in path.rglob("*") if file.is_file() and not _is_hidden(file.relative_to(path)))
    return _of_words([(file.relative_to(path).as_posix(), sha256_of_file(file)) for file in files])


def sha256_together(hashes: Sequence[str]) -> str | None:
    """One hash for all sets that are trained on: of a single one its own. None for none."""
    return hashes[0] if len(hashes) == 1 else _of_words(hashes) if hashes else None


def _of_words(words: object) -> str:
    return hashlib.sha256(json.dumps(words).encode()).hexdigest()


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)
