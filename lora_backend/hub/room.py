"""Whether what is to be downloaded has room on the disk of the cache."""

from __future__ import annotations

import shutil
from dataclasses import dataclass

from lora_backend.errors import DiskFullError
from lora_backend.formats import size
from lora_backend.hub.cache_place import CachePlace, hub_cache_of
from lora_backend.hub.download import held_bytes
from lora_backend.hub.repository import Repository
from lora_backend.i18n import N_, Message
from lora_backend.installation import Installation

SPARE_BYTES = 64 * 2**20
"""That stay free: folders, links, and what else is written on that disk meanwhile."""


@dataclass(frozen=True)
class Room:
    """What a download needs, and what there is; bytes."""

    missing_bytes: int
    """What is still to come over the network."""
    free_bytes: int
    message: Message | None
    """Why it does not fit; None where it does."""


def room_for(repository: Repository, installation: Installation) -> Room:
    """Asks the disk alone."""
    place = CachePlace(hub_cache_of(installation), repository.repo_id)
    by_hash = {file.hash: file for file in repository.files}
    missing = sum(file.size_bytes - held_bytes(place, file) for file in by_hash.values())
    folder = next(path for path in (place.folder, *place.folder.parents) if path.is_dir())
    free = shutil.disk_usage(folder).free
    if not missing or missing + SPARE_BYTES <= free:
        return Room(missing, free, None)
    message = Message(
        N_(
            "{repo} needs {needed} more, but {folder} has only {free} free. Free some space, or set `HF_HUB_CACHE` to a folder on another disk."
        ),
        {"repo": repository.repo_id, "needed": size(missing), "folder": str(place.cache), "free": size(free)},
    )
    return Room(missing, free, message)


def refuse_no_room(repository: Repository, installation: Installation) -> None:
    """Raise `DiskFullError` where there is no room for it."""
    message = room_for(repository, installation).message
    if message:
        raise DiskFullError(message.template, **message.values)
