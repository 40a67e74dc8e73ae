"""Names of a hub, checked before they become part of an address or of a path: ids, revisions, hashes, files."""

from __future__ import annotations

import re

from lora_backend.errors import FlightdeckError
from lora_backend.i18n import N_
from lora_backend.models.find import HUB_ID

LONGEST_ID, LONGEST_REVISION = 96, 200
COMMIT = re.compile(r"[0-9a-f]{40}")
HASH = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
"""Of a file: git's SHA-1 of a small one, SHA-256 of one that is stored apart."""
_NO_ID = re.compile(r"--|\.\.|[.-](/|$)|\.git$")
"""What the hub allows in no id; `--` stands for the slash in the cache."""
_REVISION = re.compile(r"\w[\w.+@-]*(/\w[\w.+@-]*)*", re.ASCII)


class HubError(FlightdeckError):
    """A hub cannot be asked, does not give what was asked for, or gives what is not taken."""

    code = "hub"


def refuse_no_id(repo_id: str) -> None:
    """Raise `HubError` for what is no `owner/name`."""
    if not HUB_ID.fullmatch(repo_id) or not repo_id.isascii() or _NO_ID.search(repo_id) or len(repo_id) > LONGEST_ID:
        raise HubError(
            N_("{repo} is not a model on a hub. Write its id as owner/name, such as Qwen/Qwen2.5-0.5B-Instruct."),
            repo=repo_id[:LONGEST_REVISION],
        )


def refuse_no_revision(revision: str) -> None:
    """Raise `HubError` for what is no name of a branch, a tag or a commit."""
    if not _REVISION.fullmatch(revision) or ".." in revision or len(revision) > LONGEST_REVISION:
        raise HubError(
            N_("{revision} is not a revision. Use a branch, a tag or a commit, such as main."),
            revision=revision[:LONGEST_REVISION],
        )


def is_file_name(name: str) -> bool:
    """Whether a name of a list of files stays below the folder that it is put into."""
    parts = name.split("/")
    return name.isprintable() and "\\" not in name and all(part not in ("", ".", "..") for part in parts)
