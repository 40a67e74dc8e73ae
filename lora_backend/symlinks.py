"""Links in folders that may come from anybody: a run or a draft has none, a model or an adapter none out of the roots.

An unpacked archive, or somebody else in a shared workspace, can leave a link in the place of any file. Whoever follows
it shows, or writes to, whatever this process may read or write.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from lora_backend.errors import FileRefusedError
from lora_backend.i18n import N_
from lora_backend.installation import is_within


class LinkRefusedError(FileRefusedError):
    """A link stands where a file or a folder of ours should be, or leads out of the roots."""

    code = "link"


def open_unlinked(path: Path, flags: int, mode: int = 0o666) -> int:
    """`os.open`, where neither the file nor the folder that it lies in is a link. Raises `LinkRefusedError` if one is.

    Opened in two steps, so that nobody can put a link in either place in between.
    """
    folder = open_unlinked_folder(path.parent)
    try:
        with naming(path):
            return os.open(path.name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, mode, dir_fd=folder)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise _is_a_link(path) from error
        raise
    finally:
        os.close(folder)


def open_unlinked_folder(path: Path) -> int:
    """A descriptor that names a folder, for the `dir_fd` of other calls. Raises `LinkRefusedError` for a link to one."""
    try:
        return os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except NotADirectoryError as error:  # which the system says of a link too
        if path.is_symlink():
            raise _is_a_link(path) from error
        raise


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Let an `OSError` name `path` whole: of a write to an open file the system names none, below a folder the last part."""
    try:
        yield
    except OSError as error:
        error.filename = str(path)
        raise


def _is_a_link(path: Path) -> LinkRefusedError:
    return LinkRefusedError(
        N_("{path} is a symbolic link, which is not followed here. Replace it with the file or folder itself."),
        path=str(path),
    )


def refuse_link(path: Path) -> None:
    """Raise `LinkRefusedError` where a link stands: before files in a folder are renamed or removed."""
    if path.is_symlink():
        raise _is_a_link(path)


def is_unlinked_file(path: Path) -> bool:
    """Whether `path` is there as a file, and neither it nor its folder is a link."""
    return path.is_file() and not (path.is_symlink() or path.parent.is_symlink())


def is_unlinked_folder(path: Path) -> bool:
    """Whether `path` is there as a folder, and not as a link to one."""
    return path.is_dir() and not path.is_symlink()


def links_below(folder: Path, entered: Iterable[str] | None = None) -> list[str]:
    """Paths, counted from `folder`, of all links in it. `entered` are the folders at its top that are looked into;
    None: all of them. Nothing where the folder is gone, or itself a link."""
    if not is_unlinked_folder(folder):
        return []
    top = None if entered is None else frozenset(entered)
    return sorted(_links(folder, "", top))


def _links(folder: Path, prefix: str, entered: frozenset[str] | None) -> Iterator[str]:
    try:
        found = list(os.scandir(folder))
    except OSError:  # gone meanwhile, or not ours to look into
        return
    for entry in found:
        if entry.is_symlink():
            yield prefix + entry.name
        elif entry.is_dir(follow_symlinks=False) and (entered is None or entry.name in entered):
            yield from _links(Path(entry.path), f"{prefix}{entry.name}/", None)


def refuse_ways_out(folder: Path, roots: tuple[Path, ...]) -> None:
    """Raise `LinkRefusedError` where an entry of `folder` is a link that leads out of `roots`.

    One within them passes: a snapshot in the hub's cache is a folder of links to the files beside it.
    """
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:  # whoever reads it says so
        return
    for entry in entries:
        if entry.is_symlink() and not is_within(Path(entry.path), roots):
            raise LinkRefusedError(
                N_(
                    "{name} in {folder} is a symbolic link to a place outside the allowed folders ({roots}), so {folder} is not read. Replace the link with the file itself."
                ),
                name=entry.name,
                folder=str(folder),
                roots=", ".join(map(str, roots)),
            )
