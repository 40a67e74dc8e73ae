"""A run's folder holds files, no links: one that was copied from anywhere could lead a reader or a writer anywhere."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lora_backend.errors import RunError
from lora_backend.i18n import N_, Message
from lora_backend.symlinks import links_below

OURS = ("attempts", "checkpoints", "adapter")
"""Folders of a run that are read and written; what else somebody keeps there is theirs."""
MOST_NAMED = 5


def links_of(run: Path, within: Sequence[str] = ("",)) -> Message | None:
    """What to say of the links in a run's folder, whose files are neither shown nor read; None where it has none.

    `within`: how the paths begin that are asked for.
    """
    names = (
        [run.name] if run.is_symlink() else [name for name in links_below(run, OURS) if name.startswith(tuple(within))]
    )
    if not names:
        return None
    shown = ", ".join(names[:MOST_NAMED]) + (" …" if len(names) > MOST_NAMED else "")
    return Message(
        N_("Run {id} contains symbolic links, which are not followed: {names}. Replace them with the files themselves."),
        {"id": run.name, "names": shown},
    )  # fmt: skip


def refuse_links(run: Path, within: Sequence[str] = ("",)) -> None:
    """Raise `RunError` where a run's folder, or a part of it, is a link: before it is trained in, or added to."""
    if found := links_of(run, within):
        raise RunError(found.template, **found.values)


def own_adapter(run: Path) -> Path:
    """The adapter's folder. Raises `RunError` where it, or anything in it, is a link."""
    refuse_links(run, ("adapter",))
    return run / "adapter"
