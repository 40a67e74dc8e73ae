"""What the torch process is asked of a data set: which rows, read how, written with which tokenizer, cut where."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from lora_backend.bounded import open_regular
from lora_backend.data.forms import DataFormat

RULES = 3
"""Raised when the same row would be counted otherwise; what was kept by older rules is not believed."""
TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer.model", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json",
    "merges.txt", "chat_template.jinja", "generation_config.json", "config.json",
)  # fmt: skip
"""Files of a model that say how its rows are written and where an answer ends."""


@dataclass(frozen=True)
class DataQuestion:
    """One data set, and the settings of a config under which its rows become tokens."""

    path: str
    """Absolute: a file, or a folder of them."""
    split: str | None = None
    model: str | None = None
    """Folder of the model whose tokenizer writes the rows; None: without one only rows are counted."""
    data_format: DataFormat = "auto"
    data_columns: Mapping[str, str] = field(default_factory=dict)
    max_bad_rows: int = 0
    max_length: int = 1024
    truncation: str = "cut_answer"
    train_on: str = "all_answers"
    batch_size: int = 4
    val_size: float = 0.0
    seed: int = 42

    def to_json(self) -> dict[str, Any]:
        """The parameters of `count_data` and, with `rows` or `search`, of `show_rows`."""
        return {**asdict(self), "data_columns": dict(self.data_columns)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> DataQuestion:
        """What `to_json` gave; what else is in it is passed over."""
        return cls(**{name: data[name] for name in cls.__dataclass_fields__ if name in data})

    def key(self, sha256: str) -> str:
        """The same while rows with this hash, the tokenizer's files and the settings are."""
        said = self.to_json()
        files = None if self.model is None else _tokenizer_hashes(Path(self.model))
        del said["path"], said["model"]
        return hashlib.sha256(json.dumps([RULES, sha256, said, files], sort_keys=True).encode()).hexdigest()[:32]


def _tokenizer_hashes(folder: Path) -> list[str | None]:
    return [_hash(folder / name) for name in TOKENIZER_FILES]


def _hash(path: Path) -> str | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return _hash_once(path, (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns))


@lru_cache(maxsize=256)
def _hash_once(path: Path, stamp: tuple[int, ...]) -> str | None:
    try:
        with open_regular(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None
