"""Exports that another one has replaced: kept in the bin until it is emptied, and put back where they were."""

from __future__ import annotations

import os
import re
import secrets
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from lora_backend.atomic import write_json
from lora_backend.clock import stamp
from lora_backend.errors import RunError
from lora_backend.i18n import N_
from lora_backend.installation import Installation, is_within
from lora_backend.runs.history.replaced_adapters import move
from lora_backend.runs.history.trash import bin_folder, discard, moment
from lora_backend.runs.record.locked_files import read_json
from lora_backend.runs.record.provenance import system_user

FOLDER = ".exports"
"""Below the bin; no run's id begins so."""
ENTRY, KEPT, EMPTIED = "entry.json", "export", ".emptied-"
ENTRY_ID = re.compile(r"\d{8}-\d{6}-[0-9a-f]{8}")


@dataclass(frozen=True)
class BinnedExport:
    """One export in the bin."""

    id: str
    deleted_at: float
    actor: str
    replaced_by: str
    """Id of the job whose export took its place."""
    place: str
    """Where it was, absolute."""
    path: Path
    """Where it lies now."""


class ExportBin:
    """`<workspace>/bin/.exports`: a folder for each export, with where it was and which job replaced it."""

    def __init__(self, installation: Installation) -> None:
        self.installation = installation
        self.folder = bin_folder(installation.workspace) / FOLDER

    def put(self, export: Path, replaced_by: str) -> BinnedExport:
        """Move an export into the bin. Raises `OSError`; it then is where it was."""
        now = self.installation.clock()
        entry = self.folder / f"{stamp(now)}-{secrets.token_hex(4)}"
        entry.mkdir(parents=True)
        binned = BinnedExport(entry.name, now, system_user(), replaced_by, str(export), entry / KEPT)
        facts = {name: getattr(binned, name) for name in ("deleted_at", "actor", "replaced_by", "place")}
        try:
            write_json(entry / ENTRY, {"kind": "export", **facts})
            _move(export, binned.path)
        except BaseException:
            shutil.rmtree(entry, ignore_errors=True)
            raise
        return binned

    def take_back(self, binned: BinnedExport) -> None:
        """Undo `put`, for one whose place could not be taken."""
        _move(binned.path, Path(binned.place))
        shutil.rmtree(binned.path.parent, ignore_errors=True)

    def list(self) -> list[BinnedExport]:
        """What is in the bin, the newest first."""
        entries = self.folder.iterdir() if self.folder.is_dir() and not self.folder.is_symlink() else ()
        found = [binned for entry in entries if (binned := _read(entry))]
        return sorted(found, key=lambda binned: (binned.deleted_at, binned.id), reverse=True)

    def restore(self, entry_id: str) -> Path:
        """Put an export back where it was; its path. Raises `RunError` where it is not in the bin, or something has its
        place, or that lies outside of the output roots: the entry is a file that anybody may have written."""
        binned = next((one for one in self.list() if one.id == entry_id), None)
        if binned is None:
            raise RunError(N_("There is no export {id} in the trash."), id=entry_id[:80])
        place = Path(binned.place)
        if not place.is_absolute() or not is_within(place.parent, self.installation.output_roots):
            raise RunError(N_("The export was in {place}, outside the output folders. Move it there yourself from {path}."), place=binned.place[:300], path=str(binned.path))  # fmt: skip
        if os.path.lexists(place):
            raise RunError(N_("{path} exists again, so this export stays in the trash. Move that away first."), path=str(place))  # fmt: skip
        place.parent.mkdir(parents=True, exist_ok=True)
        _move(binned.path, place)
        discard(binned.path.parent)
        return place

    def empty(self) -> int:
        """Delete for good all that is in the trash. Returns how many exports that were."""
        num_exports = 0
        for binned in self.list():
            with suppress(FileNotFoundError):  # put back, or emptied by another, a moment ago
                binned.path.parent.rename(self.folder / f"{EMPTIED}{binned.id}")
                num_exports += 1
        for path in (
            () if self.folder.is_symlink() else self.folder.glob(f"{EMPTIED}*")
        ):  # also what an earlier one left
            discard(path)
        return num_exports


def _move(source: Path, target: Path) -> None:
    """A file as a folder: on another disk a copy is whole before the source goes."""
    if source.is_dir():
        move(source, target)
        return
    try:
        source.rename(target)
    except OSError:
        copied = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
        try:
            shutil.copy2(source, copied)
            copied.rename(target)
        except BaseException:
            copied.unlink(missing_ok=True)
            raise
        source.unlink()


def _read(entry: Path) -> BinnedExport | None:
    """The entry in a folder of the bin; None for whatever else is there."""
    kept = entry / KEPT
    if not ENTRY_ID.fullmatch(entry.name) or entry.is_symlink() or kept.is_symlink() or not kept.exists():
        return None
    facts = read_json(entry / ENTRY) or {}
    return BinnedExport(
        entry.name,
        deleted_at=moment(facts.get("deleted_at")),
        actor=str(facts.get("actor", "")),
        replaced_by=str(facts.get("replaced_by", "")),
        place=str(facts.get("place", "")),
        path=kept,
    )
