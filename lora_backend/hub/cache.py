"""What lies in the hub's cache, and how it is deleted from there: never through a link, never under a run that uses it."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from lora_backend.hub.cache_place import FOLDER, PARTIAL, CachePlace, hub_cache_of
from lora_backend.hub.hub_names import COMMIT, HubError
from lora_backend.i18n import N_
from lora_backend.installation import Installation
from lora_backend.models.find import ADAPTER_CONFIG
from lora_backend.runs.record.run_store import RunStore, list_runs
from lora_backend.symlinks import refuse_link

MODEL_KEYS = ("model_name", "base_model", "init_from_adapter", "repo_id", "adapter")
"""Of the config of a run of any kind, those that may name what lies in the cache."""


@dataclass(frozen=True)
class CachedRepository:
    """What is there of one repository."""

    repo_id: str
    commits: tuple[str, ...]
    """That are there, the newest first; none where a download has not ended yet."""
    is_main: bool
    """Whether one of them is what `main` was: it is found by its id alone, all others by their folder."""
    kind: str
    """`model` or `adapter`; `part` where only a part was downloaded."""
    size_bytes: int
    """Of all files, those half downloaded with them."""
    partial_bytes: int
    """Of those that are half downloaded."""
    path: Path
    last_used: float | None
    """When a file was read last, as far as the disk notes it; seconds since the epoch."""


def cached_repositories(installation: Installation) -> list[CachedRepository]:
    """Models and adapters in the cache, by id. Asks the disk alone."""
    cache = hub_cache_of(installation)
    try:
        names = sorted(entry.name for entry in os.scandir(cache) if entry.is_dir(follow_symlinks=False))
    except OSError:
        return []
    found = []
    for name in names:
        try:
            place = CachePlace(cache, name.removeprefix(FOLDER).replace("--", "/"))
        except HubError:
            continue
        if place.name == name:
            found.append(_looked_into(place))
    return found


def cached_repository(repo_id: str, installation: Installation) -> CachedRepository:
    """The one with this id. Raises `HubError` where nothing of it is there."""
    place = CachePlace(hub_cache_of(installation), repo_id)
    if not place.folder.is_dir():
        raise HubError(N_("The cache {folder} has nothing of {repo}."), repo=repo_id, folder=str(place.cache))
    return _looked_into(place)


def delete_cached(repo_id: str, installation: Installation) -> int:
    """Delete all of a repository from the cache; returns the bytes that were freed.

    Raises `HubError` where nothing is there, or a run or a download uses it; `LinkRefusedError` where a link stands in
    its place.
    """
    found = cached_repository(repo_id, installation)
    place = _free_place(repo_id, installation)
    # What makes it findable goes first: a kill leaves less of it, and never a model that looks whole.
    for folder in (place.folder / "refs", place.snapshots, place.folder):
        refuse_link(folder)
        if folder.exists():
            shutil.rmtree(folder)
    shutil.rmtree(place.locks, ignore_errors=True)
    return found.size_bytes


def delete_partials(repo_id: str, installation: Installation) -> int:
    """Delete what is half downloaded: how a paused download is given up. Returns the bytes; raises as `delete_cached`."""
    found = cached_repository(repo_id, installation)
    place = _free_place(repo_id, installation)
    refuse_link(place.blobs)
    for path in place.blobs.glob(f"*{PARTIAL}"):
        path.unlink(missing_ok=True)
    if not found.commits:  # nothing else is there
        for folder in (place.folder, place.locks):
            shutil.rmtree(folder, ignore_errors=True)
    return found.partial_bytes


def _free_place(repo_id: str, installation: Installation) -> CachePlace:
    """Where it lies. Raises `HubError` where a run or a download uses it."""
    place = CachePlace(hub_cache_of(installation), repo_id)
    refuse_link(place.folder)
    user = next((run for run in list_runs(installation.runs) if _uses(run, place)), None)
    if user:
        raise HubError(
            N_("Run {id} is using {repo}, so it was not deleted. Stop the run first, or wait until it has ended."),
            id=user.id,
            repo=repo_id,
        )
    for lock in sorted(place.locks.glob("*.lock")) if place.locks.is_dir() else ():
        try:
            with FileLock(lock, timeout=0):
                continue
        except Timeout:
            raise HubError(
                N_("Another program is downloading {repo}, so it was not deleted. Stop that program first."),
                repo=repo_id,
            ) from None
    return place


def _uses(run: RunStore, place: CachePlace) -> bool:
    if run.exit_json.exists():
        return False
    record = run.glance_at_record()
    values = [record.config.get(key) for key in MODEL_KEYS] if record else []
    names = [value for value in values if isinstance(value, str)]
    if not any(name == place.repo_id or Path(name).is_relative_to(place.folder) for name in names):
        return False
    return not run.state().has_ended


def _looked_into(place: CachePlace) -> CachedRepository:
    total, partial, used = 0, 0, 0.0
    for entry in _files(place.folder):
        about = entry.stat(follow_symlinks=False)
        if stat.S_ISREG(about.st_mode):
            total += about.st_size
            used = max(used, about.st_atime)
            partial += about.st_size if entry.name.endswith(PARTIAL) else 0
    snapshots = _snapshots(place)
    return CachedRepository(
        repo_id=place.repo_id,
        commits=tuple(path.name for path in snapshots),
        is_main=_is_main(place, snapshots),
        kind=_kind(snapshots[0]) if snapshots else "part",
        size_bytes=total,
        partial_bytes=partial,
        path=place.folder,
        last_used=used or None,
    )


def _is_main(place: CachePlace, snapshots: list[Path]) -> bool:
    try:
        return place.ref("main").read_text("ascii").strip() in {path.name for path in snapshots}
    except (OSError, ValueError):
        return False


def _kind(snapshot: Path) -> str:
    weights = any(snapshot.glob("*.safetensors"))
    if (snapshot / ADAPTER_CONFIG).is_file():
        return "adapter" if weights else "part"
    return "model" if weights and (snapshot / "config.json").is_file() else "part"


def _snapshots(place: CachePlace) -> list[Path]:
    """The newest first."""
    try:
        found = [path for path in place.snapshots.iterdir() if COMMIT.fullmatch(path.name) and path.is_dir()]
        return sorted(found, key=lambda path: path.stat().st_mtime, reverse=True)
    except OSError:
        return []


def _files(folder: Path) -> Iterator[os.DirEntry[str]]:
    """All below it, behind no link."""
    waiting = [folder]
    while waiting:
        try:
            entries = list(os.scandir(waiting.pop()))
        except OSError:  # gone meanwhile
            continue
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                waiting.append(Path(entry.path))
            else:
                yield entry
