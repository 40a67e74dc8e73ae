"""Which model lies in a folder: hashes by which it is known again, read in a moment whatever its size."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from lora_backend.bounded import open_regular
from lora_backend.errors import ModelError
from lora_backend.models.headers import weight_files

SAMPLES = 16
SAMPLE_BYTES = 64 * 1024
"""Of each file of weights: another training changes all of them, so no other model has the same at all these places."""
MAX_TOKENIZER_BYTES = 256 * 2**20
TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "chat_template.jinja",
    "chat_template.json", "vocab.json", "vocab.txt", "merges.txt", "tokenizer.model", "spiece.model",
)  # fmt: skip
"""What the tokens and the chat's form are made by."""


def base_identity(path: Path) -> dict[str, str | None]:
    """`config_sha256`, `weights_sha256` (sampled: names, sizes, and some places in each file), `tokenizer_sha256` and,
    of a model in the hub's cache, `revision`. None for what is not there or cannot be read.

    `path`: a model's folder, or a bare config.json.
    """
    folder = path if path.is_dir() else None
    is_cached = folder is not None and folder.parent.name == "snapshots"
    return {
        "config_sha256": _hash_of([folder / "config.json" if folder else path]),
        "weights_sha256": _sampled(_weights(folder)) if folder else None,
        "tokenizer_sha256": _hash_of([folder / name for name in TOKENIZER_FILES]) if folder else None,
        "revision": folder.name if folder and is_cached else None,
    }


def _weights(folder: Path) -> list[Path]:
    try:
        return weight_files(folder, "model")
    except ModelError:
        return []


def _sampled(files: list[Path]) -> str | None:
    digest = hashlib.sha256()
    if not files or not all(path.is_file() for path in files):
        return None
    try:
        for path in files:
            with open_regular(path) as file:
                size_bytes = file.seek(0, 2)
                digest.update(json.dumps([path.name, size_bytes]).encode())
                for number in range(SAMPLES):
                    file.seek(max(0, (size_bytes - SAMPLE_BYTES) * number // (SAMPLES - 1)))
                    digest.update(file.read(SAMPLE_BYTES))
    except OSError:
        return None
    return digest.hexdigest()


def _hash_of(files: list[Path]) -> str | None:
    """Names and bytes of those that are there."""
    found = []
    try:
        for path in files:
            if path.is_file() and path.stat().st_size <= MAX_TOKENIZER_BYTES:
                with open_regular(path) as file:
                    found.append([path.name, hashlib.file_digest(file, "sha256").hexdigest()])
    except OSError:
        return None
    if len(files) == 1:
        return found[0][1] if found else None
    return hashlib.sha256(json.dumps(found).encode()).hexdigest() if found else None
