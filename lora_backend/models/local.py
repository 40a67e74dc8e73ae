"""The models that are on this machine: whole folders below the model roots, and what the hub's cache holds."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

MOST_FOLDERS = 3000
"""Folders that are looked into; a root may be a whole disk."""
DEEPEST = 4
"""Below a root: `models/organisation/model/version`."""
NO_MODELS = frozenset({"runs", "drafts", "bin", "queue", "leases", "data", "blobs", "refs", "profiles"})
"""Folders of the workspace and of the hub's cache that hold none to train from."""
_HUB = "models--"


def local_models(roots: Iterable[Path]) -> list[str]:
    """What `model_name` can say to find them: hub ids first, then folders; only those with weights."""
    ids: dict[str, None] = {}
    folders: dict[str, None] = {}
    for root in dict.fromkeys(roots):
        for folder in _folders(root):
            if folder.name.startswith(_HUB):
                if any(map(_is_whole, _snapshots(folder))):
                    ids[folder.name.removeprefix(_HUB).replace("--", "/")] = None
            elif _is_whole(folder):
                folders[str(folder)] = None
    return [*sorted(ids), *sorted(folders)]


def _folders(root: Path) -> Iterator[Path]:
    """The root and what is below it, but nothing inside of a model, and nothing behind a link."""
    waiting, seen = [(root, 0)], 0
    while waiting and seen < MOST_FOLDERS:
        folder, depth = waiting.pop(0)
        seen += 1
        yield folder
        if depth >= DEEPEST or folder.name.startswith(_HUB) or (folder / "config.json").is_file():
            continue
        try:
            with os.scandir(folder) as entries:
                below = sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
        except OSError:
            continue
        waiting += [(folder / name, depth + 1) for name in below if name not in NO_MODELS and not name.startswith(".")]


def _snapshots(folder: Path) -> list[Path]:
    try:
        return sorted((folder / "snapshots").iterdir())
    except OSError:
        return []


def _is_whole(folder: Path) -> bool:
    try:
        return (folder / "config.json").is_file() and any(folder.glob("*.safetensors"))
    except OSError:
        return False
