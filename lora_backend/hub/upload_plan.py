"""What a push would send to the hub: looked at once more before anything goes up."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import constants as hub

from lora_backend.hub.hub_client import endpoint_of, hub_token
from lora_backend.hub.hub_names import HubError, refuse_no_id
from lora_backend.i18n import N_, Message
from lora_backend.symlinks import links_below


@dataclass(frozen=True)
class UploadedFile:
    """A file that goes up."""

    name: str
    """Relative to the folder, and in the repository."""
    size_bytes: int


@dataclass(frozen=True)
class PlannedUpload:
    """Where to, and what."""

    repo_id: str
    endpoint: str
    is_private: bool
    """Of a repository that is made; one that is there stays as it is."""
    files: tuple[UploadedFile, ...]
    refusal: Message | None
    """Why nothing can go up: no token, no network, a link, nothing there."""

    @property
    def total_bytes(self) -> int:
        return sum(file.size_bytes for file in self.files)


def planned_upload(folder: Path, repo_id: str | None, *, private: bool = True) -> PlannedUpload:
    """What a push of `folder` would send. No network is asked. Raises `HubError` for what is no `owner/name`."""
    if repo_id is None:
        raise HubError(N_("Name the repository to push to: --repo owner/name."))
    refuse_no_id(repo_id)
    files = tuple(_files(folder))
    return PlannedUpload(repo_id, endpoint_of(None), private, files, _refusal(folder, files))


def _refusal(folder: Path, files: tuple[UploadedFile, ...]) -> Message | None:
    values: dict[str, object] = {"folder": str(folder), "endpoint": endpoint_of(None)}
    links = links_below(folder)
    if links:
        return Message(
            N_("{link} in {folder} is a symbolic link, so nothing is pushed. Replace it with the file itself."),
            {**values, "link": links[0]},
        )
    if not files:
        return Message(N_("There is nothing to push in {folder}."), values)
    if hub.is_offline_mode():
        return Message(
            N_("`HF_HUB_OFFLINE` is set, so nothing is pushed to the hub at {endpoint}. Unset it to push."), values
        )
    if hub_token() is None:
        return Message(
            N_(
                "No hub token is set. Create one with write access at {endpoint}/settings/tokens, then set `HF_TOKEN` or run `hf auth login`."
            ),
            values,
        )
    return None


def _files(folder: Path) -> list[UploadedFile]:
    """Regular files, but those whose name, or folder's name, begins with a dot."""
    found = []
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            path = Path(place, name)
            if not name.startswith(".") and path.is_file() and not path.is_symlink():
                found.append(UploadedFile(path.relative_to(folder).as_posix(), path.stat().st_size))
    return sorted(found, key=lambda file: file.name)
