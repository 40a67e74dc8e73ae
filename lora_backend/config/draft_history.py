"""The texts that a draft had, on disk, so that undo and redo survive a reload and a restart."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lora_backend.atomic import write_atomic
from lora_backend.bounded import read_text
from lora_backend.symlinks import refuse_link

MAX_STEPS = 100
MAX_TEXT_BYTES = 8 * 2**20
"""Of one text, however little of it can be read as a config."""
MAX_HISTORY_BYTES = 8 * 2**20
"""What all texts of one draft may take; the oldest go first."""


@dataclass(frozen=True)
class DraftHistory:
    """One numbered file a text; `position` names the one that the draft has now. Callers hold the draft's lock."""

    path: Path

    def numbers(self) -> list[int]:
        """The numbers of all texts, the oldest first."""
        return sorted(int(file.stem) for file in self.path.glob("*.yaml") if file.stem.isdecimal())

    def text(self, number: int) -> str | None:
        """The text with that number; None where it is gone."""
        try:
            return read_text(self.path / f"{number}.yaml", MAX_TEXT_BYTES, follow=False)
        except (OSError, UnicodeDecodeError):
            return None

    def position(self) -> int:
        """The number of the draft's text; 0 where nothing is kept yet."""
        try:
            return int(read_text(self.path / "position", 100, follow=False))
        except (OSError, ValueError):
            return 0

    def move_to(self, number: int) -> None:
        """Say that the draft has text `number` now."""
        write_atomic(self.path / "position", str(number))

    def before(self) -> int | None:
        """The number that undo goes to."""
        return max((number for number in self.numbers() if number < self.position()), default=None)

    def after(self) -> int | None:
        """The number that redo goes to."""
        return min((number for number in self.numbers() if number > self.position()), default=None)

    def push(self, text: str) -> None:
        """Let `text` be the newest; what was undone before it is dropped."""
        refuse_link(self.path)
        self.path.mkdir(exist_ok=True)
        position = self.position()
        for number in self.numbers():
            if number > position:
                (self.path / f"{number}.yaml").unlink(missing_ok=True)
        write_atomic(self.path / f"{position + 1}.yaml", text)
        self.move_to(position + 1)
        self._forget()

    def backwards(self) -> Iterator[str]:
        """The draft's texts from the one that it has now to the oldest."""
        for number in reversed([number for number in self.numbers() if number <= self.position()]):
            text = self.text(number)
            if text is not None:
                yield text

    def _forget(self) -> None:
        """Keep within the bounds; the two newest always stay."""
        total_bytes = 0
        for count, number in enumerate(reversed(self.numbers())):
            file = self.path / f"{number}.yaml"
            total_bytes += file.stat().st_size
            if count >= MAX_STEPS or (count > 1 and total_bytes > MAX_HISTORY_BYTES):
                file.unlink(missing_ok=True)
