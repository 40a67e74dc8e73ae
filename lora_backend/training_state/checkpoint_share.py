"""A checkpoint that lies on the first machine alone, brought to the others over the process group before they go on from it."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from lora_backend.errors import RunError
from lora_backend.i18n import N_
from lora_backend.installation import PeerPlace
from lora_backend.peers.peers import Peers
from lora_backend.runs.checkpoints.manifest import MANIFEST, checkpoints_of, put_in_place, remove, verified
from lora_backend.runs.record.run_store import RunStore

logger = logging.getLogger(__name__)
PIECE_BYTES = 16 * 2**20


def at_each_machine(folder: RunStore, chosen: Path | None, peers: Peers, place: PeerPlace | None) -> Path:
    """Where the checkpoint that the first process has `chosen` lies on this machine; asked by all processes together.

    Where it is not there yet, or another one by its name, one process of the machine writes it as the first sends it, whole
    or not at all. `place`: of this process; None: all are on one machine.
    """
    name, manifest = peers.agreed((chosen.name, (chosen / MANIFEST).read_bytes()) if chosen else ("", b""))
    own = folder.checkpoints / name
    writes = place is not None and place.node > 0 and place.local_rank == 0 and not _has(own, manifest)
    if not peers.any_has(writes):
        return own
    aside = folder.checkpoints / f".{name}.new"
    staged = aside / name
    try:
        for file, piece in _sent(chosen, manifest, peers):
            if writes:
                _append(staged, file, piece)
        if writes:
            _append(staged, MANIFEST, manifest)
            _take(folder, staged, own)
    finally:
        if writes:
            shutil.rmtree(aside, ignore_errors=True)
    peers.wait_for_all()
    return own


def _has(own: Path, manifest: bytes) -> bool:
    try:
        return (own / MANIFEST).read_bytes() == manifest and not verified(own)
    except OSError:
        return False


def _sent(chosen: Path | None, manifest: bytes, peers: Peers) -> Iterator[tuple[str, bytes]]:
    """Name and the next bytes of each file of the checkpoint, at every process."""
    for name, told in json.loads(manifest)["files"].items():
        file = (chosen / name).open("rb") if chosen else None
        try:
            for _ in range(0, max(told["size"], 1), PIECE_BYTES):
                yield name, peers.agreed(file.read(PIECE_BYTES) if file else b"")
        finally:
            if file:
                file.close()


def _append(staged: Path, name: str, piece: bytes) -> None:
    inside = PurePosixPath(name)
    if inside.is_absolute() or ".." in inside.parts:
        raise RunError(N_("{name} is not a file of a checkpoint."), name=name[:100])
    path = staged / inside
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        file.write(piece)


def _take(folder: RunStore, staged: Path, own: Path) -> None:
    if problems := verified(staged):
        raise RunError(
            N_("{checkpoint} did not arrive complete from machine 1: {problems}. Resume again."),
            checkpoint=own.name,
            problems="; ".join(problems),
        )
    put_in_place(staged, own)
    for path in checkpoints_of(folder):  # of an earlier resume
        if path != own:
            remove(path)
    logger.info("%s came from machine 1", own.name)
