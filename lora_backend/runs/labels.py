"""What people say of a run: tags, a note, a pin, and whether it is put away."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from lora_backend.atomic import write_json
from lora_backend.errors import RunError
from lora_backend.i18n import N_

LONGEST_TAG, MOST_TAGS, LONGEST_NOTE = 40, 20, 10_000


@dataclass(frozen=True)
class Labels:
    """Of one run; `labels.json` in its folder. Text is kept as it was written, and shown as text."""

    tags: tuple[str, ...] = ()
    note: str = ""
    pinned: bool = False
    archived: bool = False


def read_labels(run: Path) -> Labels:
    """The labels of the run in folder `run`; none where the file is absent or unreadable."""
    try:
        data = json.loads((run / "labels.json").read_text("utf-8"))
        return Labels(
            tuple(str(tag) for tag in data.get("tags", ())),
            str(data.get("note", "")),
            bool(data.get("pinned")),
            bool(data.get("archived")),
        )
    except (OSError, ValueError, AttributeError, TypeError):
        return Labels()


def write_labels(
    run: Path,
    *,
    tags: Sequence[str] | None = None,
    note: str | None = None,
    pinned: bool | None = None,
    archived: bool | None = None,
) -> Labels:
    """Change some labels; what is None stays. Raises `RunError` for tags or a note that are too long."""
    labels = read_labels(run)
    if tags is not None:
        cleaned = tuple(dict.fromkeys(tag.strip() for tag in tags if tag.strip()))
        if len(cleaned) > MOST_TAGS or any(len(tag) > LONGEST_TAG for tag in cleaned):
            raise RunError(
                N_("A run has at most {count} tags of at most {length} characters. Shorten or drop some."),
                count=MOST_TAGS,
                length=LONGEST_TAG,
            )
        labels = replace(labels, tags=cleaned)
    if note is not None:
        if len(note) > LONGEST_NOTE:
            raise RunError(N_("A note has at most {length} characters. Shorten it."), length=LONGEST_NOTE)
        labels = replace(labels, note=note)
    if pinned is not None:
        labels = replace(labels, pinned=pinned)
    if archived is not None:
        labels = replace(labels, archived=archived)
    write_json(run / "labels.json", asdict(labels))
    return labels
