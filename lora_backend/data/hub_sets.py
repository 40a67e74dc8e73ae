"""Data sets of the hub that are in its cache on this machine. No network is asked."""

from __future__ import annotations

import re
from pathlib import Path

from huggingface_hub import constants as hub

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


def hub_cache() -> Path:
    """Where the hub's files are kept."""
    return Path(hub.HF_HUB_CACHE).absolute()


def cached_data_set(name: str) -> Path | None:
    """The folder of the data set with this id as it was downloaded last; None where it was not, or the name is no id."""
    if not HUB_ID.fullmatch(name) or ".." in name or "--" in name:
        return None
    folder = hub_cache() / f"datasets--{name.replace('/', '--')}"
    try:
        revision = (folder / "refs/main").read_text("ascii").strip()
        return _snapshot(folder, revision)
    except (OSError, ValueError):
        return _newest(folder / "snapshots")


def cached_data_sets() -> list[str]:
    """The ids of those that were downloaded, in order."""
    try:
        folders = [path.name for path in hub_cache().iterdir() if path.name.startswith("datasets--")]
    except OSError:
        return []
    ids = (name.removeprefix("datasets--").replace("--", "/") for name in sorted(folders))
    return [name for name in ids if cached_data_set(name) is not None]


def _snapshot(folder: Path, revision: str) -> Path | None:
    found = folder / "snapshots" / revision
    return found if re.fullmatch(r"[0-9a-f]{40}", revision) and found.is_dir() else None


def _newest(snapshots: Path) -> Path | None:
    """Of a set that was asked for by its revision alone."""
    try:
        found = [path for path in snapshots.iterdir() if path.is_dir()]
        return max(found, key=lambda path: path.stat().st_mtime, default=None)
    except OSError:
        return None
