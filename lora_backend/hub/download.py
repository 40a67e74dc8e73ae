"""Download one file into the hub's cache: resumed where it broke off, checked by its hash, whole or not there."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from io import FileIO
from typing import TYPE_CHECKING

from filelock import Timeout

from lora_backend.formats import size
from lora_backend.hub.cache_place import CachePlace
from lora_backend.hub.hub_client import HubAwayError, HubClient
from lora_backend.hub.hub_names import HASH, HubError
from lora_backend.hub.repository import Repository, RepositoryFile
from lora_backend.i18n import N_, Message
from lora_backend.symlinks import naming, open_unlinked

if TYPE_CHECKING:
    import httpx2

READ_BYTES = 2**20
WAITS_S = (0.0, 1.0, 2.0, 4.0, 8.0, 16.0)
"""Before each further try since the last byte that came."""
POLL_S = 0.2
GIT_HASH_DIGITS = 40
_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")


@dataclass(frozen=True)
class Listener:
    """Who is told how a download goes; each may raise to stop it, and what is there of the file stays."""

    holds: Callable[[int, int], None]
    """Bytes of the file that are there now; those of them that just came over the network."""
    waits: Callable[[float], None]
    """Sleep so many seconds, before the next try."""
    queues: Callable[[float], None]
    """The same, while another process downloads this file."""


class _Partial:
    """A file that is being filled, with the hash of what is in it."""

    def __init__(self, file: FileIO, of: RepositoryFile) -> None:
        self._file, self.of = file, of
        self._begin()

    def _begin(self) -> None:
        self.num_bytes = 0
        # A file in git has the hash of its object, whose header says its size: git-scm.com/book, "Git Objects".
        is_git = len(self.of.hash) == GIT_HASH_DIGITS
        self._digest = hashlib.sha1(f"blob {self.of.size_bytes}\0".encode()) if is_git else hashlib.sha256()  # noqa: S324 - git's

    def empty(self) -> None:
        """Take back what is in it."""
        self._file.seek(0)
        self._file.truncate()
        self._begin()

    def read_again(self, listener: Listener) -> None:
        """Know what an earlier download left; nothing of it stays where it is longer than the file."""
        if os.fstat(self._file.fileno()).st_size > self.of.size_bytes:
            self.empty()
        while data := self._file.read(READ_BYTES):
            self._digest.update(data)
            self.num_bytes += len(data)
            listener.holds(self.num_bytes, 0)

    def add(self, data: bytes) -> None:
        """Append; raises `OSError` where there is no room."""
        left = memoryview(data)
        while left:
            left = left[self._file.write(left) :]
        self._digest.update(data)
        self.num_bytes += len(data)

    def is_right(self) -> bool:
        return self._digest.hexdigest() == self.of.hash


def fetch(
    client: HubClient, repository: Repository, file: RepositoryFile, place: CachePlace, listener: Listener
) -> None:
    """Bring a file into `place.blobs`, where it is not there already; the folders must be there.

    Raises `HubError` for what is not the file that was listed, and where the hub breaks off again and again.
    """
    lock, path, whole = place.lock(file.hash), place.partial(file.hash), place.blobs / file.hash
    while True:
        try:
            lock.acquire(blocking=False)
            break
        except Timeout:  # once it is there, the lock is free and nothing is left to do
            listener.queues(POLL_S)
    try:
        if whole.exists():
            return
        with naming(path), FileIO(open_unlinked(path, os.O_RDWR | os.O_CREAT), "r+b") as opened:
            partial = _Partial(opened, file)
            try:
                partial.read_again(listener)
                _fill(client, repository, partial, listener)
                os.fsync(opened.fileno())
            finally:
                if not partial.num_bytes and file.size_bytes:
                    path.unlink(missing_ok=True)
        path.replace(whole)
    finally:
        lock.release()


def held_bytes(place: CachePlace, file: RepositoryFile) -> int:
    """What is there of a file: all of it, or as much as was downloaded before."""
    for path in (place.blobs / file.hash, place.partial(file.hash)):
        try:
            return min(path.stat().st_size, file.size_bytes)
        except OSError:
            continue
    return 0


def _fill(client: HubClient, repository: Repository, partial: _Partial, listener: Listener) -> None:
    """Download until the file is whole and right."""
    is_resumed = partial.num_bytes > 0
    while True:
        _download(client, repository, partial, listener)
        if partial.is_right():
            return
        partial.empty()
        if not is_resumed:
            raise _other(repository, partial.of, Message(N_("its hash differs")))
        is_resumed = False  # what was left of an earlier download was wrong: once more, from the first byte


def _download(client: HubClient, repository: Repository, partial: _Partial, listener: Listener) -> None:
    """Download until the file has its size, over as many connections as that takes."""
    failures = 0
    while partial.num_bytes < partial.of.size_bytes:
        before = partial.num_bytes
        reason: str | Message = Message(N_("it ends too early"))
        try:
            _stream(client, repository, partial, listener)
        except HubAwayError as error:
            reason = error.reason
        if partial.num_bytes < partial.of.size_bytes:
            failures = 0 if partial.num_bytes > before else failures + 1
            if failures >= len(WAITS_S):
                raise HubError(
                    N_(
                        "The download of {file} from {repo} failed {count} times in a row: {reason}. What was downloaded is kept; download it again to continue."
                    ),
                    file=partial.of.name,
                    repo=repository.repo_id,
                    count=failures,
                    reason=reason,
                )
            listener.waits(WAITS_S[failures])


def _stream(client: HubClient, repository: Repository, partial: _Partial, listener: Listener) -> None:
    """One connection: what is missing, as far as it comes. The address names a commit, so the bytes before are the same."""
    file, first = partial.of, partial.num_bytes
    # No `If-Range`: a large file is given by another host, which knows the hub's tag of it not; the hash tells in the end.
    headers = {"Accept-Encoding": "identity", **({"Range": f"bytes={first}-"} if first else {})}
    address = repository.address_of(file)
    with client.answer("GET", address, repository.repo_id, repository.revision, headers) as response:
        if response.status_code == 416:
            partial.empty()
            return
        _refuse_other(response, repository, file)
        if response.status_code != 206:
            partial.empty()
        elif _range_of(response)[0] != first:
            return
        for data in response.iter_bytes():
            if partial.num_bytes + len(data) > file.size_bytes:
                partial.empty()
                raise _other(repository, file, _another_size(None, file))
            partial.add(data)
            listener.holds(partial.num_bytes, len(data))


def _refuse_other(response: httpx2.Response, repository: Repository, file: RepositoryFile) -> None:
    """Raise `HubError` where the answer says by itself that this is another file than the one that was listed."""
    hops = [*response.history, response]
    tags = [hop.headers.get("X-Linked-Etag") for hop in hops]
    if not any(tags) and not response.history:  # of another host the tag is its own
        tags.append(response.headers.get("ETag"))
    found = [tag.removeprefix("W/").strip('"') for tag in tags if tag]
    if any(HASH.fullmatch(tag) and tag != file.hash for tag in found):
        raise _other(repository, file, Message(N_("its etag differs")))
    commits = {hop.headers["X-Repo-Commit"] for hop in hops if "X-Repo-Commit" in hop.headers}
    if commits - {repository.commit}:
        raise _other(repository, file, Message(N_("it is of another commit")))
    total = _range_of(response)[1] if response.status_code == 206 else response.headers.get("Content-Length")
    is_plain = response.headers.get("Content-Encoding", "identity") == "identity"
    if is_plain and total and total.isdecimal() and int(total) != file.size_bytes:
        raise _other(repository, file, _another_size(int(total), file))


def _range_of(response: httpx2.Response) -> tuple[int | None, str | None]:
    found = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
    return (int(found[1]), found[2]) if found else (None, None)


def _another_size(found: int | None, file: RepositoryFile) -> Message:
    values = {"listed": size(file.size_bytes), "found": "–" if found is None else size(found)}
    return Message(
        N_("it has {found}, not {listed}") if found is not None else N_("it is larger than {listed}"), values
    )


def _other(repository: Repository, file: RepositoryFile, reason: Message) -> HubError:
    return HubError(
        N_(
            "{file} of {repo} is not the file that the hub lists ({reason}), so it was not kept. Try again; if that does not help, check `HF_ENDPOINT` and the proxy."
        ),
        file=file.name,
        repo=repository.repo_id,
        reason=reason,
    )
