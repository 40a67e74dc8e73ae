"""Published adapters that another one has replaced: kept in the bin until it is emptied, and put back where they were."""

from __future__ import annotations

import errno
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lora_backend.atomic import write_json
from lora_backend.clock import stamp
from lora_backend.config.schema import KEYS
from lora_backend.errors import RunError
from lora_backend.i18n import N_
from lora_backend.installation import Installation
from lora_backend.runs.checkpoints.publication import PLACE, is_published_adapter, publication_of
from lora_backend.runs.history.trash import bin_folder, discard, moment
from lora_backend.runs.processes.waiting import leases_folder
from lora_backend.runs.record.locked_files import lock_file, read_json
from lora_backend.runs.record.provenance import system_user

FOLDER = ".adapters"
"""Below the bin; no run's id begins so."""
ENTRY, ADAPTER, EMPTIED = "entry.json", "adapter", ".emptied-"
ENTRY_ID = re.compile(r"\d{8}-\d{6}-[0-9a-f]{8}")


@dataclass(frozen=True)
class BinnedAdapter:
    """One adapter in the bin."""

    id: str
    deleted_at: float
    actor: str
    replaced_by: str
    """Id of the run whose adapter took its place."""
    place: Mapping[str, Any]
    """The keys of its config that say where it was published."""
    path: Path
    """Where it lies now."""

    @property
    def title(self) -> str:
        """Where it was, in words of the config: `adapters/shop/1`."""
        return "/".join(str(self.place[key]) for key in PLACE if self.place.get(key))


@contextmanager
def publishing(workspace: Path) -> Iterator[None]:
    """Held while a published adapter is put in its place or taken from it, by one process of the workspace at a time."""
    folder = leases_folder(workspace)
    folder.mkdir(parents=True, exist_ok=True)
    with lock_file(folder / "publish.lock"):
        yield


class AdapterBin:
    """`<workspace>/bin/.adapters`: a folder for each adapter, with where it was and who replaced it."""

    def __init__(self, installation: Installation) -> None:
        self.installation = installation
        self.folder = bin_folder(installation.workspace) / FOLDER

    def put(self, adapter: Path, place: Mapping[str, Any], replaced_by: str) -> BinnedAdapter:
        """Move a published adapter into the bin. Raises `OSError`; it then is where it was. To be called in `publishing`."""
        now = self.installation.clock()
        entry = self.folder / f"{stamp(now)}-{secrets.token_hex(4)}"
        entry.mkdir(parents=True)
        kept = {key: value for key in PLACE if (value := place.get(key, KEYS[key].default))}
        binned = BinnedAdapter(entry.name, now, system_user(), replaced_by, kept, entry / ADAPTER)
        facts = {name: getattr(binned, name) for name in ("deleted_at", "actor", "replaced_by", "place")}
        try:
            write_json(entry / ENTRY, {"kind": "adapter", **facts})
            move(adapter, binned.path)
        except BaseException:
            shutil.rmtree(entry, ignore_errors=True)
            raise
        return binned

    def take_back(self, binned: BinnedAdapter, target: Path) -> None:
        """Undo `put`, for one whose place could not be taken."""
        move(binned.path, target)
        shutil.rmtree(binned.path.parent, ignore_errors=True)

    def list(self) -> list[BinnedAdapter]:
        """What is in the bin, the newest first."""
        entries = self.folder.iterdir() if self.folder.is_dir() and not self.folder.is_symlink() else ()
        found = [binned for entry in entries if (binned := _read(entry))]
        return sorted(found, key=lambda binned: (binned.deleted_at, binned.id), reverse=True)

    def restore(self, entry_id: str) -> Path:
        """Put an adapter back where it was published; the folder. Raises `RunError` where it is not in the bin, and
        `PublicationError` where it may not go there, or something has its place."""
        binned = next((one for one in self.list() if one.id == entry_id), None)
        if binned is None:
            raise RunError(N_("There is no adapter {id} in the trash."), id=entry_id[:80])
        with publishing(self.installation.workspace):
            # The entry is a file that anybody may have written, so its place is judged as a config's is.
            publication = publication_of(binned.place, self.installation, bound=True)
            if publication is None:
                raise RunError(
                    N_("The trash does not say where adapter {id} was published. It is in {path}."),
                    id=entry_id,
                    path=str(binned.path),
                )
            if publication.standing != "nothing":
                raise RunError(
                    N_("{path} exists again, so this adapter stays in the trash. Move that away first."),
                    path=str(publication.path),
                )
            publication.path.parent.mkdir(parents=True, exist_ok=True)
            move(binned.path, publication.path)
        discard(binned.path.parent)
        return publication.path

    def empty(self) -> int:
        """Delete for good all that is in the trash. Returns how many adapters that were."""
        num_adapters = 0
        for binned in self.list():
            with suppress(FileNotFoundError):  # put back, or emptied by another, a moment ago
                binned.path.parent.rename(self.folder / f"{EMPTIED}{binned.id}")
                num_adapters += 1
        for path in (
            () if self.folder.is_symlink() else self.folder.glob(f"{EMPTIED}*")
        ):  # also what an earlier one left
            discard(path)
        return num_adapters


def move(source: Path, target: Path) -> None:
    """Rename a folder; to another disk by a copy that is there whole before the source goes."""
    try:
        source.rename(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        copied, gone = (path.with_name(f".{path.name}.{secrets.token_hex(4)}") for path in (target, source))
        try:
            shutil.copytree(source, copied, symlinks=True)
            copied.rename(target)
        except BaseException:
            shutil.rmtree(copied, ignore_errors=True)
            raise
        source.rename(gone)
        shutil.rmtree(gone)


def _read(entry: Path) -> BinnedAdapter | None:
    """The entry in a folder of the bin; None for whatever else is there."""
    if not ENTRY_ID.fullmatch(entry.name) or entry.is_symlink() or not is_published_adapter(entry / ADAPTER):
        return None
    facts = read_json(entry / ENTRY) or {}
    place = facts.get("place")
    return BinnedAdapter(
        entry.name,
        deleted_at=moment(facts.get("deleted_at")),
        actor=str(facts.get("actor", "")),
        replaced_by=str(facts.get("replaced_by", "")),
        place=place if isinstance(place, dict) else {},
        path=entry / ADAPTER,
    )
