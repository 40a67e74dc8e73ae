"""Drafts: configs on disk under an id, so that a reload, a second tab or a restart lose nothing."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from lora_backend.atomic import write_atomic
from lora_backend.errors import ConfigError
from lora_backend.i18n import N_

DRAFT_ID = re.compile(r"[0-9a-f]{8}")


@dataclass(frozen=True)
class Draft:
    """One draft's folder: `config.yaml`, and under `launches/` one file for each time that it was launched."""

    path: Path

    @property
    def id(self) -> str:
        return self.path.name

    def text(self) -> str:
        try:
            return (self.path / "config.yaml").read_text("utf-8")
        except OSError as error:
            raise _gone(self.id) from error

    def save(self, text: str) -> None:
        """Keep `text`. Raises `ConfigError` where the draft was deleted meanwhile."""
        if not self.path.is_dir():
            raise _gone(self.id)
        write_atomic(self.path / "config.yaml", text)

    def launches(self) -> list[str]:
        """Ids of the runs that were launched from this draft, the first one first."""
        files = sorted((self.path / "launches").glob("[0-9]*"), key=lambda path: int(path.name))
        return [path.read_text("utf-8") for path in files]

    def launch_once(self, number: int, launch: Callable[[], str]) -> str:
        """Launch number `number` (from 0) of this draft: `launch` runs once, however often this is asked.

        Whoever comes second gets the first one's run id. A launch that raises can be tried again.
        """
        if not self.path.is_dir():
            raise _gone(self.id)
        (self.path / "launches").mkdir(exist_ok=True)
        marker = self.path / "launches" / str(number)
        with FileLock(self.path / "launch.lock"):
            if not marker.exists():
                write_atomic(marker, launch())
            return marker.read_text("utf-8")


def _gone(draft_id: str) -> ConfigError:
    return ConfigError(N_("There is no draft {id} (any more). Start a new one."), id=draft_id)


def new_draft(root: Path, text: str) -> Draft:
    """A new draft below `root`, with `text` in it."""
    draft = Draft(root / secrets.token_hex(4))
    draft.path.mkdir(parents=True)
    draft.save(text)
    return draft


def open_draft(root: Path, draft_id: str) -> Draft:
    """The draft `draft_id`; `ConfigError` where there is none."""
    if not DRAFT_ID.fullmatch(draft_id) or not (root / draft_id / "config.yaml").is_file():
        raise _gone(draft_id[:20])
    return Draft(root / draft_id)
