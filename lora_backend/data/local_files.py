"""The data sets that are on this machine: files of rows below the data roots."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from lora_backend.data.source_files import KIND_OF_ENDING, NO_ROWS
from lora_backend.data.unpacking import ENDINGS as PACKED

ENDINGS = tuple(KIND_OF_ENDING)
MOST_FOLDERS = 1000
"""Folders that are looked into; a root may be a whole disk."""
MOST_FILES = 500
DEEPEST = 3
"""Below a root: `data/project/version`."""
NO_DATA = frozenset({"runs", "drafts", "bin", "queue", "leases", "adapters", "node_modules", "site-packages"})


@dataclass(frozen=True)
class LocalFile:
    """A file of rows, by the name that finds it again."""

    name: str
    """What `dataset` can say: relative to a data root where that leads to this file, else its whole path."""
    size_bytes: int
    changed_at: float


def local_files(roots: Iterable[Path]) -> list[LocalFile]:
    """The files below the data roots, the one that was changed last first."""
    found: dict[Path, LocalFile] = {}
    roots = list(dict.fromkeys(roots))
    for root in roots:
        for path in _files(root):
            if len(found) >= MOST_FILES:
                break
            if path not in found and (stat := _stat(path)) is not None:
                found[path] = LocalFile(name_of(path, roots), stat.st_size, stat.st_mtime)
    return sorted(found.values(), key=lambda file: file.changed_at, reverse=True)


def is_rows_file(name: str) -> bool:
    """Whether a file of that name may hold rows."""
    return NO_ROWS.fullmatch(name) is None and bool(ending_of(name))


def ending_of(name: str) -> str:
    """`.jsonl`, `.csv.gz`; empty for a file of another kind."""
    lowered = name.lower()
    packed = next((ending for ending in PACKED if lowered.endswith(ending)), "")
    kind = next((ending for ending in ENDINGS if lowered.removesuffix(packed).endswith(ending)), "")
    return kind and kind + packed


def name_of(path: Path, roots: Iterable[Path]) -> str:
    """The shortest text that a config may name `path` by: a relative one counts from the first root that has it."""
    roots = list(roots)
    names = [str(path)]
    for root in roots:
        if path.is_relative_to(root):
            relative = path.relative_to(root)
            if next((other / relative for other in roots if (other / relative).exists()), None) == path:
                names.append(str(relative))
    return min(names, key=len)


def _files(root: Path) -> Iterator[Path]:
    """Files of rows below a root, but nothing inside of a model, and nothing behind a link."""
    waiting, seen = [(root, 0)], 0
    while waiting and seen < MOST_FOLDERS:
        folder, depth = waiting.pop(0)
        seen += 1
        try:
            with os.scandir(folder) as entries:
                inside = sorted(entries, key=lambda entry: entry.name)
        except OSError:
            continue
        if any(entry.name == "config.json" for entry in inside):
            continue
        for entry in inside:
            if entry.name.startswith("."):
                continue
            if entry.is_dir(follow_symlinks=False):
                if depth < DEEPEST and entry.name not in NO_DATA and not entry.name.startswith("models--"):
                    waiting.append((folder / entry.name, depth + 1))
            elif entry.is_file(follow_symlinks=False) and is_rows_file(entry.name):
                yield folder / entry.name


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:
        return None
