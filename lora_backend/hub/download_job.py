"""The job that brings a model or an adapter into the hub's cache: found there by all when it is whole, not before."""

from __future__ import annotations

import os
from pathlib import Path

from lora_backend.atomic import write_atomic
from lora_backend.bounded import read_json
from lora_backend.hub.cache_place import CachePlace, hub_cache_of
from lora_backend.hub.download import Listener, fetch, held_bytes
from lora_backend.hub.hub_client import HubClient
from lora_backend.hub.hub_names import COMMIT, HubError, refuse_no_revision
from lora_backend.hub.repository import Repository, RepositoryFile, look_up_with
from lora_backend.hub.room import refuse_no_room
from lora_backend.hub.transfer import Transfer
from lora_backend.hub.wanted_files import CONFIG, INDEX
from lora_backend.i18n import N_
from lora_backend.installation import Installation
from lora_backend.models.find import ADAPTER_CONFIG
from lora_backend.runs.processes.job_progress import JobProgress
from lora_backend.runs.record.job_documents import DownloadRequest, DownloadResult
from lora_backend.runs.record.run_store import RunStore


def download_in(request: DownloadRequest, folder: RunStore, installation: Installation, progress: JobProgress) -> None:
    """Do the job. A stop leaves what is there of a file, and the next download of it goes on from there.

    Raises `HubError` and `DiskFullError`, the latter before the first byte.
    """
    place = CachePlace(hub_cache_of(installation), request.repo_id)
    refuse_no_revision(request.revision)
    refuse_no_revision(request.commit or request.revision)
    progress.stage("reading")
    with HubClient() as client:
        repository = look_up_with(client, request.repo_id, request.commit or request.revision)
        if repository.refusal:
            raise HubError(repository.refusal.template, **repository.refusal.values)
        refuse_no_room(repository, installation)
        for path in (place.blobs, place.locks):
            path.mkdir(parents=True, exist_ok=True)
        progress.stage("downloading")
        came_bytes = _fetch_all(client, repository, place, progress)
    progress.stage("checking")
    snapshot = publish(repository, place, request.revision)
    folder.write_result(
        DownloadResult(
            repo_id=repository.repo_id,
            commit=repository.commit,
            path=str(snapshot),
            size_bytes=repository.total_bytes,
            downloaded_bytes=came_bytes,
        )
    )


def _fetch_all(client: HubClient, repository: Repository, place: CachePlace, progress: JobProgress) -> int:
    files = list({file.hash: file for file in repository.files}.values())
    held = {file.hash: held_bytes(place, file) for file in files}
    transfer = Transfer(progress, repository.total_bytes, sum(held.values()))

    def tell(file: RepositoryFile, num_bytes: int, came_bytes: int) -> None:
        held[file.hash] = num_bytes
        transfer.at(sum(held.values()), came_bytes)

    for file in files:

        def holds(num_bytes: int, came_bytes: int, of: RepositoryFile = file) -> None:
            tell(of, num_bytes, came_bytes)

        fetch(client, repository, file, place, Listener(holds, transfer.sleep, transfer.queue))
        tell(file, file.size_bytes, 0)
        if file.name == INDEX:  # before the gigabytes that it lists
            _refuse_missing_shards(place.blobs / file.hash, repository)
    return transfer.came_bytes


def _refuse_missing_shards(index: Path, repository: Repository) -> None:
    """Raise `HubError` where the weights are cut into files that the repository does not have."""
    try:
        listed = read_json(index)["weight_map"].values()
        missing = sorted(set(map(str, listed)) - {file.name for file in repository.files})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise HubError(
            N_("{file} of {repo} cannot be read, so its weights are not downloaded."),
            file=INDEX,
            repo=repository.repo_id,
        ) from error
    if missing:
        raise HubError(
            N_("{repo} lists its weights in {index}, but has no {file}, so it is not downloaded."),
            repo=repository.repo_id,
            index=INDEX,
            file=missing[0][:200],
        )


def publish(repository: Repository, place: CachePlace, revision: str) -> Path:
    """Make the snapshot of links to the files, which are all there; returns its folder. What others look for first, the
    config, comes last, and what the revision is called by after that: a kill leaves nothing that looks whole and is not."""
    snapshot = place.snapshots / repository.commit
    last = (ADAPTER_CONFIG, CONFIG)
    for file in sorted(repository.files, key=lambda file: file.name in last):
        link = snapshot / file.name
        link.parent.mkdir(parents=True, exist_ok=True)
        _link(link, place.blobs / file.hash)
    if not COMMIT.fullmatch(revision):
        ref = place.ref(revision)
        ref.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(ref, repository.commit)
    return snapshot


def _link(link: Path, blob: Path) -> None:
    """A link, also where something else stands in its place."""
    target = os.path.relpath(blob, link.parent)
    if link.is_symlink() and os.readlink(link) == target:  # noqa: PTH115 - as it stands
        return
    link.unlink(missing_ok=True)
    link.symlink_to(target)
