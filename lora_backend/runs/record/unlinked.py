"""A run's folder holds files, no links: one that was copied from anywhere could lead a reader or a writer anywhere."""

from __future__ import annotations

import os
from pathlib import Path

from lora_backend.errors import RunError
from lora_backend.i18n import N_, Message
from lora_backend.symlinks import links_below

OURS = ("attempts", "checkpoints", "adapter", "peers")
"""Folders of a run that are read and written; what else somebody keeps there is theirs."""
MOST_NAMED = 5
DEEPEST = 5
"""Folders from that of a checkpoint's file up to the run's."""


def links_of(run: Path, part: str = "") -> Message | None:
    """What to say of the links in a run's folder, whose files are neither shown nor read; None where it has none.

    `part` is the file or folder of the run that is asked for; empty: all of it.
    """
    names = [run.name] if run.is_symlink() else [name for name in links_below(run, OURS) if _concerns(name, part)]
    if not names:
        return None
    shown = ", ".join(names[:MOST_NAMED]) + (" …" if len(names) > MOST_NAMED else "")
    return Message(
        N_(
            "Run {id} contains symbolic links, which are not followed: {names}. Replace them with the files themselves."
        ),
        {"id": run.name, "names": shown},
    )


def refuse_links(run: Path, part: str = "") -> None:
    """Raise `RunError` where a run's folder, or a part of it, is a link: before it is trained in, or added to."""
    if found := links_of(run, part):
        raise RunError(found.template, **found.values)


def own_adapter(run: Path) -> Path:
    """The adapter's folder. Raises `RunError` where it, or anything in it, is a link."""
    refuse_links(run, "adapter")
    return run / "adapter"


def refuse_links_in_its_run(path: Path) -> None:
    """The same for a path of a person's own, where it lies in a run: what leads to the run is theirs, and followed."""
    for run in (path, *path.parents)[:DEEPEST]:
        if os.path.lexists(run / "run.json"):
            refuse_links(run.resolve(), path.relative_to(run).as_posix().removeprefix("."))


def _concerns(link: str, part: str) -> bool:
    """Whether a link is `part`, lies in it, or stands on the way to it."""
    return not part or f"{link}/".startswith(f"{part}/") or f"{part}/".startswith(f"{link}/")
