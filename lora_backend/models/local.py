"""The models that are on this machine: whole folders below the model roots, and what the hub's cache holds."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from lora_backend.bounded import read_text

MOST_FOLDERS = 3000
"""Folders that are looked into; a root may be a whole disk."""
DEEPEST = 4
"""Below a root: `models/organisation/model/version`."""
NO_MODELS = frozenset({"runs", "drafts", "bin", "queue", "leases", "data", "blobs", "refs", "profiles"})
"""Folders of the workspace and of the hub's cache that hold none to train from."""
HUB_PREFIX = "models--"
"""Begins the name of a repository's folder in the hub's cache."""
MAX_REF_BYTES = 1000
_SHARD = re.compile(r"-\d{1,9}-of-(\d{1,9})\.safetensors$")


@dataclass(frozen=True)
class LocalModel:
    """A whole model on this machine."""

    name: str
    """What `model_name` can say to find it: the hub id of a repository whose `main` is there, else the folder."""
    folder: Path
    """Where its files are; of a repository in the hub's cache one of its snapshots."""
    size_bytes: int
    """Of its weights."""
    is_cached: bool
    """Whether it lies in the hub's cache."""


def local_models(roots: Iterable[Path]) -> list[LocalModel]:
    """Those with weights below the roots: hub ids first, then folders."""
    cached: dict[str, LocalModel] = {}
    folders: dict[str, LocalModel] = {}
    for root in dict.fromkeys(roots):
        for folder in folders_below(root):
            if folder.name.startswith(HUB_PREFIX):
                for snapshot in snapshots_of(folder):
                    name = hub_id_of(folder) if snapshot.name == _main_of(folder) else str(snapshot)
                    if weights := _weights(snapshot):
                        cached[name] = LocalModel(name, snapshot, sum(weights), is_cached=True)
            elif weights := _weights(folder):
                folders[str(folder)] = LocalModel(str(folder), folder, sum(weights), is_cached=False)
    return [*(cached[name] for name in sorted(cached)), *(folders[name] for name in sorted(folders))]


def folders_below(root: Path) -> Iterator[Path]:
    """The root and what is below it, but nothing inside of a model, and nothing behind a link."""
    waiting, seen = [(root, 0)], 0
    while waiting and seen < MOST_FOLDERS:
        folder, depth = waiting.pop(0)
        seen += 1
        yield folder
        if depth >= DEEPEST or folder.name.startswith(HUB_PREFIX) or (folder / "config.json").is_file():
            continue
        try:
            with os.scandir(folder) as entries:
                below = sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
        except OSError:
            continue
        waiting += [(folder / name, depth + 1) for name in below if name not in NO_MODELS and not name.startswith(".")]


def hub_id_of(folder: Path) -> str:
    """The id of the repository that a folder of the hub's cache keeps."""
    return folder.name.removeprefix(HUB_PREFIX).replace("--", "/")


def snapshots_of(folder: Path) -> list[Path]:
    """The folders in which the revisions of a cached repository show their files."""
    try:
        return sorted((folder / "snapshots").iterdir())
    except OSError:
        return []


def _main_of(folder: Path) -> str | None:
    """The commit that `main` of a cached repository is; its id alone finds no other."""
    try:
        return read_text(folder / "refs" / "main", MAX_REF_BYTES).strip()
    except (OSError, ValueError):
        return None


def _weights(folder: Path) -> list[int]:
    """Bytes of each of its files of weights; none where it is not whole, as while it is being downloaded."""
    try:
        if not (folder / "config.json").is_file():
            return []
        files = list(folder.glob("*.safetensors"))
        shards = [found for path in files if (found := _SHARD.search(path.name))]
        if shards and len(shards) < max(int(found[1]) for found in shards):
            return []
        return [path.stat().st_size for path in files]
    except OSError:
        return []
