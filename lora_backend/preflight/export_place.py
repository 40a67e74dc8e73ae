"""Where an export goes, and whether it may be there: one answer for command, browser and job."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from huggingface_hub import constants as hub

from lora_backend.bounded import open_regular, read_json
from lora_backend.errors import FlightdeckError
from lora_backend.i18n import N_, Message
from lora_backend.installation import OF_THE_WORKSPACE, Installation, is_within, path_of
from lora_backend.runs.checkpoints.publication import holds_a_model
from lora_backend.runs.record.job_documents import ExportRequest, Target
from lora_backend.symlinks import links_below

MARKER = "flightdeck-export.json"
"""In each folder that an export made: what it put there."""
ZIP_MARK = b"LoRA Flightdeck export"
"""The comment at the end of an archive of ours."""
GGUF_MARK = b"flightdeck.export"
"""A key among the first of a GGUF of ours."""
CARD_MARK = "<!-- LoRA Flightdeck export -->"
"""A line near the top of a card of ours."""
HEAD_BYTES = 64 * 1024
FILE_ENDINGS: dict[Target, str] = {"adapter": ".zip", "gguf": ".gguf", "card": ".md"}
"""What an export that is one file ends in; of an adapter and a card a folder will do as well."""
_NEVER_A_FOLDER = frozenset(FILE_ENDINGS.values())


class ExportError(FlightdeckError):
    """An export cannot be made, or may not be where it was asked for."""

    code = "export"


@dataclass(frozen=True)
class ExportPlace:
    """A place where an export may be."""

    path: Path
    """Absolute, its folder resolved."""
    is_file: bool
    standing: Literal["nothing", "export", "other"]
    """What is there now: nothing (or an empty folder), an export of ours, or something else."""


def export_place(request: ExportRequest, job_output: Path, name: str, installation: Installation) -> ExportPlace:
    """Where the export of a request goes; below `job_output`, called `name`, where the request does not say.

    Raises `ExportError` for a place where no export may be.
    """
    if request.output is None:
        path = job_output / _own_name(request, name)
        return ExportPlace(path, path.suffix in _NEVER_A_FOLDER, "nothing")
    written = path_of(request.output)
    if written is None or not written.is_absolute():
        raise ExportError(N_("{path} cannot be a file or folder on this machine. Choose another place."), path=request.output[:200])  # fmt: skip
    is_file = _is_file(request.to, written)
    path = _resolved(written)
    if request.bound and not is_within(path, installation.output_roots):
        raise ExportError(
            N_("The export {path} must be below {roots}. Choose a folder there, or add yours to FLIGHTDECK_OUTPUT_ROOTS and restart."),
            path=str(path), roots=", ".join(map(str, installation.output_roots)),
        )  # fmt: skip
    _refuse_unusable(path, is_file)
    _refuse_kept(path, installation)
    _refuse_models(path, Path(request.adapter), installation)
    return ExportPlace(path, is_file, _standing(path))


def refuse_what_stands(place: ExportPlace, *, may_replace: bool) -> None:
    """Raise `ExportError` where something stands in the place that an export must leave there."""
    if place.standing == "other":
        raise ExportError(N_("{path} is not a Flightdeck export, so it is not replaced. Choose another place."), path=str(place.path))  # fmt: skip
    if place.standing == "export" and not may_replace:
        raise ExportError(N_("There is already an export in {path}. Choose to overwrite it (`--overwrite`), or choose another place."), path=str(place.path))  # fmt: skip


def is_export(path: Path) -> bool:
    """Whether `path` is recognisably an export of ours: a folder with our marker that holds nothing else, or a file with
    our mark in it."""
    try:
        mode = path.lstat().st_mode
        if stat.S_ISDIR(mode):
            return _is_folder_of_ours(path)
        return stat.S_ISREG(mode) and _is_marked(path)
    except (OSError, ValueError):
        return False


def _is_folder_of_ours(folder: Path) -> bool:
    found = read_json(folder / MARKER, follow=False)
    files = found.get("files") if isinstance(found, dict) else None
    if not isinstance(files, dict):
        return False
    # A file of somebody's would go along; an empty folder is none of ours either.
    there = {
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_symlink() or not path.is_dir()
    }
    folders = sum(path.is_dir() and not any(path.iterdir()) for path in folder.rglob("*"))
    return not folders and there <= {MARKER, *files} and not links_below(folder)


def _is_marked(path: Path) -> bool:
    with open_regular(path, follow=False) as file:
        if path.suffix == ".zip":
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - len(ZIP_MARK)))
            return file.read() == ZIP_MARK
        head = file.read(HEAD_BYTES)
    if path.suffix == ".gguf":
        return head.startswith(b"GGUF") and GGUF_MARK in head
    return path.suffix == ".md" and CARD_MARK.encode() in head


def _own_name(request: ExportRequest, name: str) -> str:
    if request.to == "card":
        return "README.md"
    return name + FILE_ENDINGS.get(request.to, "")


def _is_file(to: Target, path: Path) -> bool:
    ending = FILE_ENDINGS.get(to)
    if path.suffix == ending:
        return True
    if path.suffix in _NEVER_A_FOLDER or to == "gguf":
        allowed = {"adapter": N_("a folder, or a file that ends in .zip"), "gguf": N_("a file that ends in .gguf"), "card": N_("a folder, or a file that ends in .md")}  # fmt: skip
        raise ExportError(
            N_("{path} cannot be the place of this export. It takes {form}."),
            path=str(path), form=Message(allowed.get(to, N_("a folder"))),
        )  # fmt: skip
    return False


def _resolved(path: Path) -> Path:
    """The folder's links are followed; a link in the very place is refused."""
    try:
        found = path.parent.resolve() / path.name
        if path_of(str(found)) is not None and path.name not in ("", "..") and len(found.parts) <= 100:
            return found
    except (OSError, ValueError, RuntimeError):  # links in a circle
        pass
    raise ExportError(N_("{path} cannot be a file or folder on this machine. Choose another place."), path=str(path)[:200])  # fmt: skip


def _refuse_unusable(path: Path, is_file: bool) -> None:
    if path.is_symlink():
        raise ExportError(N_("{path} is a link, and exports are not written through links. Choose another place."), path=str(path))  # fmt: skip
    if is_file and path.is_dir():
        raise ExportError(N_("{path} is a folder, but the export is a file. Choose another name."), path=str(path))
    if not is_file and path.exists() and not path.is_dir():
        raise ExportError(N_("{path} is a file, but the export is a folder. Choose another name."), path=str(path))
    above = next(part for part in path.parents if os.path.lexists(part))
    if not above.is_dir():
        raise ExportError(N_("{path} is a file, so nothing can be written below it. Choose another place."), path=str(above))  # fmt: skip
    if not os.access(above, os.W_OK | os.X_OK):
        raise ExportError(N_("The folder {path} is not writable. Change its permissions, or choose another place."), path=str(above))  # fmt: skip


def _refuse_kept(path: Path, installation: Installation) -> None:
    """Flightdeck's own folders and the caches of models, whether at, below or above them."""
    workspace = installation.workspace.resolve()
    kept = [workspace / name for name in OF_THE_WORKSPACE]
    # A cache may be the folder that the workspace lies in.
    kept += [cache for cache in (installation.cache, Path(hub.HF_HUB_CACHE)) if not is_within(workspace, (cache,))]
    for folder in kept:
        if path.is_relative_to(folder.resolve()) or _is_same_folder((path, *path.parents), folder) or _is_named_alike(path, folder):  # fmt: skip
            raise ExportError(
                N_("Nothing can be exported to {path}: Flightdeck uses {folder} for other files. Choose another place."),
                path=str(path), folder=str(folder),
            )  # fmt: skip
    roots = (*installation.model_roots, *installation.data_roots, *installation.output_roots)
    home = Path(os.path.expanduser("~"))  # noqa: PTH111 - Path.home raises where there is none
    for folder in (workspace, *kept, *roots, *([home] if home.is_absolute() else [])):
        if folder.resolve().is_relative_to(path) or _is_same_folder((folder.resolve(), *folder.resolve().parents), path):  # fmt: skip
            raise ExportError(
                N_("Nothing can be exported as {path}: {folder} is in the way. Choose another place."),
                path=str(path), folder=str(folder),
            )  # fmt: skip


def _refuse_models(path: Path, adapter: Path, installation: Installation) -> None:
    """A folder that lies in a model, or in another adapter, would be taken for a part of it."""
    workspace = installation.workspace.resolve()
    if path == adapter.resolve() or path.is_relative_to(adapter.resolve()):
        raise ExportError(N_("{path} is the adapter's own folder. Choose another place."), path=str(path))
    for parent in path.parents:
        if parent == workspace:  # whatever it was made in
            return
        if holds_a_model(parent):
            raise ExportError(
                N_("Nothing can be exported to {path}: {folder} contains a model or an adapter. Choose another place."),
                path=str(path), folder=str(parent),
            )  # fmt: skip


def _standing(path: Path) -> Literal["nothing", "export", "other"]:
    if not os.path.lexists(path):
        return "nothing"
    try:
        if path.is_dir() and not any(path.iterdir()):
            return "nothing"
    except OSError:
        return "other"
    return "export" if is_export(path) else "other"


def _is_same_folder(ways: Iterable[Path], folder: Path) -> bool:
    """Whether the file system says that one of `ways` is `folder`: it may not tell `Runs` from `runs`."""
    try:
        found = folder.stat()
    except OSError:  # not there yet
        return False
    for way in ways:
        try:
            if os.path.samestat(way.stat(), found):
                return True
        except OSError:
            continue
    return False


def _is_named_alike(path: Path, folder: Path) -> bool:
    """The same before either is made."""
    workspace = folder.parent
    is_below = path.is_relative_to(workspace) and path != workspace
    return is_below and path.relative_to(workspace).parts[0].casefold() == folder.name.casefold()
