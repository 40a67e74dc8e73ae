"""What a repository of a hub offers: its files with sizes and hashes, at one commit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import quote

from lora_backend.hub.hub_client import GATED, HubClient
from lora_backend.hub.hub_names import COMMIT, HASH, HubError, is_file_name, refuse_no_id, refuse_no_revision
from lora_backend.hub.wanted_files import refusal_of, wanted_files
from lora_backend.i18n import N_, Message
from lora_backend.models.find import ADAPTER_CONFIG


@dataclass(frozen=True)
class RepositoryFile:
    """A file that is downloaded."""

    name: str
    size_bytes: int
    hash: str
    """64 digits: its SHA-256; 40: git's SHA-1 of it. Its name in the cache."""


@dataclass(frozen=True)
class Repository:
    """A repository at a commit."""

    repo_id: str
    revision: str
    """As it was asked for."""
    commit: str
    endpoint: str
    files: tuple[RepositoryFile, ...]
    """Those that are downloaded, what is small first."""
    gated: bool
    private: bool
    kind: Literal["model", "adapter"]
    refusal: Message | None
    """Why it is not downloaded: gated and the token has no access, only pickled weights, nothing to load."""

    @property
    def total_bytes(self) -> int:
        """Of all files; one that lies under two names counts once, as on the disk."""
        return sum({file.hash: file.size_bytes for file in self.files}.values())

    def address_of(self, file: RepositoryFile) -> str:
        """Where it is fetched from, below the endpoint."""
        return f"/{self.repo_id}/resolve/{self.commit}/{quote(file.name)}"


def look_up(repo_id: str, revision: str = "main", endpoint: str | None = None) -> Repository:
    """What the hub has under this id. Asks the network; what keeps it from being downloaded is its `refusal`.

    Raises `HubError` for what is no id, what is not there or private, a hub that does not answer, and `HF_HUB_OFFLINE`.
    """
    refuse_no_id(repo_id)
    refuse_no_revision(revision)
    with HubClient(endpoint) as client:
        return look_up_with(client, repo_id, revision)


def look_up_with(client: HubClient, repo_id: str, revision: str) -> Repository:
    """The same with a client that is there, and names that are checked."""
    said = client.json(f"/api/models/{repo_id}/revision/{quote(revision, safe='')}?blobs=true", repo_id, revision)
    commit = said.get("sha") if isinstance(said, dict) else None
    listed = said.get("siblings") if isinstance(said, dict) else None
    if not isinstance(commit, str) or not COMMIT.fullmatch(commit) or not isinstance(listed, list):
        raise HubError(
            N_("The hub at {endpoint} does not say what {repo} contains. Check `HF_ENDPOINT`."),
            endpoint=client.endpoint,
            repo=repo_id,
        )
    by_name = {str(item.get("rfilename")): item for item in listed if isinstance(item, dict)}
    for name in by_name:
        if not is_file_name(name):
            raise HubError(
                N_("{repo} lists a file {file} outside its own folder, so nothing from it is downloaded."),
                repo=repo_id,
                file=name[:200],
            )
    refusal = refusal_of(by_name, repo_id)
    files = tuple(_file(name, by_name[name], repo_id) for name in wanted_files(by_name))
    found = Repository(
        repo_id=repo_id,
        revision=revision,
        commit=commit,
        endpoint=client.endpoint,
        files=files,
        gated=bool(said.get("gated")),
        private=bool(said.get("private")),
        kind="adapter" if ADAPTER_CONFIG in by_name else "model",
        refusal=refusal,
    )
    return found if refusal or not found.gated else _with_access(client, found)


def _file(name: str, said: Mapping[str, Any], repo_id: str) -> RepositoryFile:
    """A file as the list has it; of one that is stored apart the list's own hash is that of a pointer to it."""
    apart = said.get("lfs")
    of = apart if isinstance(apart, dict) else said
    size: Any = of.get("size")
    digest = of.get("sha256" if of is apart else "blobId")
    is_count = isinstance(size, int) and not isinstance(size, bool)
    if not is_count or not 0 <= size < 2**53 or not isinstance(digest, str) or not HASH.fullmatch(digest):
        raise HubError(
            N_("The hub does not say the size and the hash of {file} of {repo}, so it cannot be checked."),
            repo=repo_id,
            file=name,
        )
    return RepositoryFile(name, size, digest)


def _with_access(client: HubClient, found: Repository) -> Repository:
    """A gated repository shows its list to everybody: whether its files are given too is asked of one."""
    try:
        with client.answer("HEAD", found.address_of(found.files[0]), found.repo_id, found.revision):
            return found
    except HubError as error:
        if error.message.template != GATED:
            raise
        return Repository(**{**vars(found), "refusal": error.message})
