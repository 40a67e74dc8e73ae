"""Where one repository lies in the hub's cache, in the layout of the hub's own library."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock
from huggingface_hub import constants as hub

from lora_backend.hub.hub_names import refuse_no_id
from lora_backend.installation import Installation

FOLDER, LOCKS, PARTIAL = "models--", ".locks", ".incomplete"


def hub_cache_of(installation: Installation) -> Path:
    """The cache's folder, which its library counts from the current one."""
    return installation.folder / hub.HF_HUB_CACHE


@dataclass(frozen=True)
class CachePlace:
    """The paths of one repository, whether anything is there or not."""

    cache: Path
    repo_id: str

    def __post_init__(self) -> None:
        refuse_no_id(self.repo_id)

    @property
    def name(self) -> str:
        return FOLDER + self.repo_id.replace("/", "--")

    @property
    def folder(self) -> Path:
        return self.cache / self.name

    @property
    def blobs(self) -> Path:
        """Each file once, named by its hash."""
        return self.folder / "blobs"

    @property
    def snapshots(self) -> Path:
        """A folder for each commit, of links to blobs."""
        return self.folder / "snapshots"

    def ref(self, revision: str) -> Path:
        """A file that says which commit a branch or a tag is."""
        return self.folder / "refs" / revision

    def partial(self, digest: str) -> Path:
        """What is there of a file so far."""
        return self.blobs / f"{digest}{PARTIAL}"

    def lock(self, digest: str) -> FileLock:
        """Held by whoever downloads a file, by the hub's own library too."""
        return FileLock(self.locks / f"{digest}.lock", mode=0o664)

    @property
    def locks(self) -> Path:
        return self.cache / LOCKS / self.name
