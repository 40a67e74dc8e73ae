"""Drafts: configs on disk under an id, so that a reload, a second tab or a restart lose nothing."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from lora_backend.atomic import filling, write_atomic
from lora_backend.bounded import read_text
from lora_backend.config.draft_history import MAX_TEXT_BYTES, DraftHistory
from lora_backend.errors import ConfigError, FileRefusedError
from lora_backend.i18n import N_
from lora_backend.symlinks import is_unlinked_file, refuse_link

DRAFT_ID = re.compile(r"[0-9a-f]{8}")
MAX_ID_BYTES = 1000
MAX_NAME = 100
"""Characters of a draft's name."""
LOCKS = frozenset({"draft.lock", "launch.lock"})
BIN = ".bin"
"""Folder below the drafts' own where deleted ones wait."""


class DraftConflictError(ConfigError):
    """Someone else has changed the draft meanwhile; `theirs` is the text that it has now, `mine` what was to be saved."""

    code = "draft_conflict"

    def __init__(self, draft_id: str, mine: str, theirs: str) -> None:
        self.mine, self.theirs = mine, theirs
        super().__init__(N_("Draft {id} was changed in another tab while you edited it here."), id=draft_id)


@dataclass(frozen=True)
class Draft:
    """One draft's folder.

    `config.yaml` is the text, `history/` what it was before, `launches/` has one file for each time that it was
    launched, `bases/` the files that it was compared with, `imported/` the file of another tool that it came from,
    `table.txt` the table that makes many runs of it, `table_tag.txt` their tag, `name.txt` what people call it.
    """

    path: Path

    @property
    def id(self) -> str:
        return self.path.name

    @property
    def history(self) -> DraftHistory:
        return DraftHistory(self.path / "history")

    @property
    def changed_at(self) -> float:
        """When the text was saved last, in seconds since the epoch; 0 where the draft is gone."""
        try:
            return (self.path / "config.yaml").stat().st_mtime
        except OSError:
            return 0.0

    def text(self) -> str:
        try:
            return read_text(self.path / "config.yaml", MAX_TEXT_BYTES, follow=False)
        except FileRefusedError as error:
            raise ConfigError(error.message.template, **error.message.values) from error
        except (FileNotFoundError, NotADirectoryError) as error:
            raise _gone(self.id) from error

    def save(self, text: str, expected_revision: str | None = None) -> None:
        """Keep `text`, and the one before it for undo.

        Raises `ConfigError` where the draft was deleted meanwhile, and `DraftConflictError` where it has another text
        than the one with `expected_revision` (None: whatever it has is replaced).
        """
        with self._locked():
            now = self.text()  # it may have been deleted while the lock was waited for
            if text != now and expected_revision not in (None, revision_of(now)):
                raise DraftConflictError(self.id, text, now)
            self._keep(now)
            self._keep(text)
            write_atomic(self.path / "config.yaml", text)

    def undo(self) -> bool:
        """Back to the text before; False where there is none."""
        return self._step(self.history.before)

    def redo(self) -> bool:
        """Forward to the text that was undone; False where there is none."""
        return self._step(self.history.after)

    def launches(self) -> list[str]:
        """Ids of the runs that were launched from this draft, the first one first."""
        numbers = sorted(int(path.name) for path in (self.path / "launches").glob("[0-9]*") if path.name.isdecimal())
        return [text for number in numbers if (text := self.launched(number)) is not None]

    def launch_once(self, number: int | str, launch: Callable[[], str]) -> str:
        """Launch number `number` (from 0; a row of a table has a name) of this draft: `launch` runs once, however often
        this is asked.

        Whoever comes second gets the first one's run id. A launch that raises can be tried again. Raises `ConfigError`
        where the draft was deleted meanwhile.
        """
        if not self.path.is_dir():
            raise _gone(self.id)
        marker = self.path / "launches" / str(number)
        with FileLock(self.path / "launch.lock"):
            if not (self.path / "config.yaml").is_file():  # deleted while the lock was waited for
                raise _gone(self.id)
            marker.parent.mkdir(exist_ok=True)
            if not marker.exists():
                write_atomic(marker, launch())
            return read_text(marker, MAX_ID_BYTES, follow=False)

    def launched(self, number: int | str) -> str | None:
        """The id of the run that this launch made; None where it has not been launched."""
        try:
            return read_text(self.path / "launches" / str(number), MAX_ID_BYTES, follow=False)
        except (OSError, UnicodeDecodeError):
            return None

    def base(self, name: str) -> str | None:
        """The text of a file that the draft was compared with; None where there is none of that name."""
        return self._side_text(f"bases/{name}")

    def name(self) -> str | None:
        """What people call it, as its runs are called then; None where nobody named it."""
        return (self._side_text("name.txt") or "").strip()[:MAX_NAME] or None

    def rename(self, name: str) -> None:
        """Call it so; an empty name takes the name away. Raises `ConfigError` where it was deleted meanwhile."""
        if not self.path.is_dir():
            raise _gone(self.id)
        write_atomic(self.path / "name.txt", " ".join(name.split())[:MAX_NAME])

    def table(self) -> str:
        """The table of many runs as it was last typed; empty where there is none."""
        return self._side_text("table.txt") or ""

    def table_tag(self) -> str | None:
        """The tag that was last asked for on these runs; None where nobody chose."""
        return self._side_text("table_tag.txt")

    def keep_table(self, *, table: str | None = None, tag: str | None = None) -> None:
        """Keep what is given for the next look at the draft. Raises `ConfigError` where it was deleted meanwhile."""
        if not self.path.is_dir():
            raise _gone(self.id)
        for name, text in (("table.txt", table), ("table_tag.txt", tag)):
            if text is not None:
                write_atomic(self.path / name, text)

    def imported(self) -> tuple[str, str] | None:
        """Name and text of the file of another tool that the draft came from; None where it came from none."""
        for path in sorted((self.path / "imported").glob("*")):
            if (text := self._side_text(f"imported/{path.name}")) is not None:
                return path.name, text
        return None

    def keep_beside(self, folder: str, name: str, text: str) -> None:
        """Keep a file in `bases` or `imported`."""
        (self.path / folder).mkdir(exist_ok=True)
        write_atomic(self.path / folder / name, text)

    def _side_text(self, name: str) -> str | None:
        try:
            return read_text(self.path / name, MAX_TEXT_BYTES, follow=False)
        except (OSError, UnicodeDecodeError):
            return None

    def _locked(self) -> FileLock:
        if not self.path.is_dir():
            raise _gone(self.id)
        return FileLock(self.path / "draft.lock")

    def _keep(self, text: str) -> None:
        """Make `text` the newest of the history, unless it is that already."""
        history = self.history
        if history.text(history.position()) != text:
            history.push(text)

    def _step(self, target: Callable[[], int | None]) -> bool:
        with self._locked():
            self._keep(self.text())  # also what an editor outside wrote can be undone
            number = target()
            text = None if number is None else self.history.text(number)
            if number is None or text is None:
                return False
            write_atomic(self.path / "config.yaml", text)
            self.history.move_to(number)
            return True


def revision_of(text: str) -> str:
    """What a text is recognised by; the same text is the same revision, whoever wrote it."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _gone(draft_id: str) -> ConfigError:
    return ConfigError(N_("Draft {id} does not exist; it may have been deleted. Start a new one."), id=draft_id)


def new_draft(root: Path, text: str) -> Draft:
    """A new draft below `root`, with `text` in it."""
    draft = Draft(root / secrets.token_hex(4))
    with filling(draft.path):
        write_atomic(draft.path / "config.yaml", text)
        draft.save(text)
    return draft


def open_draft(root: Path, draft_id: str) -> Draft:
    """The draft `draft_id`; `ConfigError` where there is none."""
    draft = Draft(root / draft_id)
    if not DRAFT_ID.fullmatch(draft_id) or not (draft.path / "config.yaml").is_file():
        raise _gone(draft_id[:20])
    if draft.path.is_symlink():
        draft.text()  # says so
    return draft


def list_drafts(root: Path) -> list[Draft]:
    """All drafts below `root`, the one that was changed last first."""
    folders = [path for path in root.iterdir() if DRAFT_ID.fullmatch(path.name)] if root.is_dir() else []
    drafts = [Draft(path) for path in folders if is_unlinked_file(path / "config.yaml")]
    return sorted(drafts, key=lambda draft: draft.changed_at, reverse=True)


def delete_draft(root: Path, draft_id: str) -> None:
    """Put a draft into the bin. Raises `ConfigError` where there is none, or one that is being launched at this moment."""
    draft = open_draft(root, draft_id)
    refuse_link(root / BIN)
    (root / BIN).mkdir(exist_ok=True)
    try:
        with FileLock(draft.path / "launch.lock", timeout=0), FileLock(draft.path / "draft.lock"):
            open_draft(root, draft_id)  # another may have deleted it before the locks were had
            draft.path.replace(root / BIN / draft_id)
    except Timeout as error:
        raise ConfigError(N_("Draft {id} is being launched. Delete it once that is done."), id=draft_id) from error


def restore_draft(root: Path, draft_id: str) -> Draft:
    """Take a draft out of the bin. Raises `ConfigError` where it is not there."""
    refuse_link(root / BIN)
    draft = open_draft(root / BIN, draft_id)
    target = root / draft_id
    if target.is_dir() and not target.is_symlink() and LOCKS.issuperset(path.name for path in target.iterdir()):
        shutil.rmtree(target)  # the lock of one who came when it was gone
    if os.path.lexists(target):
        raise ConfigError(N_("Draft {id} stays in the trash: {path} exists again."), id=draft_id, path=str(target))
    draft.path.replace(target)
    return open_draft(root, draft_id)
