"""What people say of a run: tags, a note, a pin, and whether it is put away."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from lora_backend.atomic import write_json
from lora_backend.errors import RunError
from lora_backend.i18n import N_
from lora_backend.runs.record.documents import Labels
from lora_backend.runs.record.locked_files import lock_file, read_json
from lora_backend.runs.record.run_folder import RunFolder

LONGEST_TAG, MOST_TAGS, LONGEST_NOTE = 40, 20, 10_000


def read_labels(run: Path) -> Labels:
    """The labels of the run in folder `run`; none where the file is absent or unreadable."""
    return Labels.read(read_json(RunFolder(run).labels_json) or {})


def write_labels(
    run: Path,
    *,
    tags: Sequence[str] | None = None,
    added: Sequence[str] = (),
    removed: Collection[str] = (),
    note: str | None = None,
    pinned: bool | None = None,
    archived: bool | None = None,
) -> Labels:
    """Change some labels; what is None stays. Raises `RunError` for tags or a note that are too long.

    `tags` replaces all of them; `added` and `removed` leave those that somebody else has written meanwhile.
    """
    with lock_file(run / "labels.lock"):
        labels = read_labels(run)
        if tags is None and (added or removed):
            tags = [*(tag for tag in labels.tags if tag not in removed), *added]
        if tags is not None:
            labels.tags = _cleaned(tags)
        if note is not None:
            if len(note) > LONGEST_NOTE:
                raise RunError(N_("A note can have at most {length} characters. Shorten it."), length=LONGEST_NOTE)
            labels.note = note
        if pinned is not None:
            labels.pinned = pinned
        if archived is not None:
            labels.archived = archived
        write_json(RunFolder(run).labels_json, labels.to_json())
    return labels


def _cleaned(tags: Sequence[str]) -> list[str]:
    cleaned = list(dict.fromkeys(tag.strip() for tag in tags if tag.strip()))
    if len(cleaned) > MOST_TAGS or any(len(tag) > LONGEST_TAG for tag in cleaned):
        raise RunError(
            N_("A run can have up to {count} tags of up to {length} characters. Shorten or remove some."),
            count=MOST_TAGS,
            length=LONGEST_TAG,
        )
    return cleaned
