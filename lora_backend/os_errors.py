"""What the file system refuses, in one sentence: which folder or file, and what to do about it."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from lora_backend.errors import DiskFullError, FlightdeckError
from lora_backend.i18n import N_

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
DENIED = (errno.EACCES, errno.EPERM)
AWAY = (errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT, errno.EHOSTDOWN, errno.EREMOTEIO, errno.ENODEV)
"""What a network drive says that has gone away."""
READ_ONLY = {
    True: N_("{folder} is read-only. Make it writable, or set FLIGHTDECK_WORKSPACE to another folder and start again."),
    False: N_("{folder} is read-only. Make it writable, or choose another folder."),
}
NOT_ALLOWED = {
    True: N_(
        "The permissions of {path} do not allow this. Change them, or set FLIGHTDECK_WORKSPACE to another folder and start again."
    ),
    False: N_("The permissions of {path} do not allow this. Change them, or choose another place."),
}
"""Whether it is the workspace that refuses → sentence."""
MEANINGS = {
    errno.ENOENT: N_("{path} does not exist. It may have been moved or deleted; check the path, then try again."),
    errno.ENOTDIR: N_("A part of the path {path} is a file, where a folder is needed. Rename or move that file, then try again."),
    errno.EEXIST: N_("{path} already exists and is in the way. Rename or move it, then try again."),
    errno.EISDIR: N_("{path} is a folder, where a file is needed. Rename or move it, then try again."),
    errno.ENAMETOOLONG: N_("The name {path} is too long for this disk. Choose a shorter one."),
    errno.ELOOP: N_("The symbolic links at {path} lead in a circle. Remove one of them, then try again."),
    errno.EIO: N_("The disk with {folder} reports a read or write error. Check the disk and its cable or connection, then try again."),
    errno.EMFILE: N_("This program has too many files open. Restart it, or raise the limit with `ulimit -n`."),
    errno.EAGAIN: N_("This machine has no memory or no processes left for that. Close other programs, then try again."),
    errno.ENOMEM: N_("This machine has no memory or no processes left for that. Close other programs, then try again."),
    errno.ENFILE: N_("This machine has too many files open. Close other programs, then try again."),
}  # fmt: skip


def in_words(error: OSError, workspace: Path) -> FlightdeckError:
    """`error` as a sentence with its folder and a remedy; one of ours has its own already.

    `workspace`: what is named where the system names no file, and another of which may be the remedy.
    """
    if isinstance(error, FlightdeckError):
        return error
    path = _path_of(error, workspace)
    folder = _folder_of(path)
    if error.errno in NO_ROOM:
        return DiskFullError(
            N_("There is no space left in {folder}. Free some space, then try again."), folder=str(folder)
        )
    if error.errno == errno.EROFS:
        return _refused_for_good(READ_ONLY, path, folder, workspace)
    if error.errno in DENIED:
        return _refused_for_good(NOT_ALLOWED, path, folder, workspace)
    if error.errno in AWAY:
        return FlightdeckError(
            N_("The drive with {folder} does not answer. Check that it is connected, then try again."),
            folder=str(folder),
        )
    if meaning := MEANINGS.get(error.errno or 0):
        return FlightdeckError(meaning, path=_shortened(path), folder=_shortened(folder))
    return FlightdeckError(
        N_("{path} cannot be read or written: {reason}."),
        path=_shortened(path),
        reason=error.strerror or type(error).__name__,
    )


def is_disk_full(error: BaseException) -> bool:
    """Whether `error` came of a write for which there was no room.

    torch and safetensors report it as errors of their own kind, with the system's words inside.
    """
    if isinstance(error, OSError) and error.errno in NO_ROOM:
        return True
    return any(os.strerror(code).lower() in str(error).lower() or f"os error {code}" in str(error) for code in NO_ROOM)


def _refused_for_good(template: dict[bool, str], path: Path, folder: Path, workspace: Path) -> FlightdeckError:
    """Another workspace helps where it is the workspace that refuses, or what is to hold it."""
    is_workspace = folder.is_relative_to(workspace) or workspace.is_relative_to(folder)
    return FlightdeckError(template[is_workspace], path=_shortened(path), folder=_shortened(folder))


def _path_of(error: OSError, workspace: Path) -> Path:
    """What the error names; of a write to an open file the system names nothing, and ours lie in the workspace."""
    name = error.filename
    return Path(name) if isinstance(name, str) and name else workspace


def _folder_of(path: Path) -> Path:
    """The nearest folder of `path` that is there."""
    for folder in (path, *path.parents):
        try:
            if folder.is_dir():
                return folder
        except OSError:  # which may not even be looked at
            continue
    return path.parent


def _shortened(path: Path) -> str:
    text = str(path)
    return text if len(text) <= 300 else f"{text[:200]}…{text[-60:]}"
