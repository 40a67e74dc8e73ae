"""One look at every row of a data set: which are bad, which are equal, what is to be said. Kept by content."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lora_backend.atomic import write_json
from lora_backend.bounded import read_json
from lora_backend.data.chat_rows import RowLeftOutError
from lora_backend.data.data_report import MOST_NAMED, NoteCode, RowNote
from lora_backend.data.example_digest import digest_of
from lora_backend.data.examples import Chat
from lora_backend.data.forms import FoundForm
from lora_backend.data.raw_rows import BadRowError
from lora_backend.data.row_file import RowFile
from lora_backend.data.row_index import SMALL_BYTES
from lora_backend.i18n import N_, Message

RULES = 1
"""Raised when another row is good or bad than before: what was kept by older rules is not believed."""
MOST_KEYS = 100
"""Unused keys that are counted, each by itself."""
TELL_EVERY_S = 0.2
CHUNK = 2**16
Places = npt.NDArray[np.uint64]


@dataclass
class Scan:
    """What was found. Rows count from 0 here, bad ones included."""

    bad: list[tuple[int, Message]] = field(default_factory=list)
    """The first ones."""
    num_bad: int = 0
    notes: list[RowNote] = field(default_factory=list)
    columns: list[str] = field(default_factory=list)
    """Keys of the rows in the order in which they come; of very many the first."""
    has_chats: bool = False
    """Whether the first good row is a chat."""
    left_out: Places = field(default_factory=lambda: np.zeros(0, np.uint64))
    """Rows that are bad, or ask not to be learned; in order."""
    equal: Places = field(default_factory=lambda: np.zeros((0, 2), np.uint64))
    """Pairs of a row and the first one before it that becomes the same example."""


def scan_rows(rows: RowFile, form: FoundForm, kept: Path, report: Callable[[float], None]) -> Scan:
    """Look at every row, or take what is kept of the same content in the same form."""
    asked = json.dumps([RULES, form.form, dict(form.columns), form.is_said, [f.kind for f in rows.source.files]])
    name = f"{rows.sha256}-{hashlib.sha256(asked.encode()).hexdigest()[:16]}"
    card = kept / f"{name}.scan.json"
    found = _known(card)
    if found is None:
        kept.mkdir(parents=True, exist_ok=True)
        found = _Scanner(rows, form, kept).scan(report)
        if rows.size_bytes > SMALL_BYTES:
            _keep(found, card)
    return found


class _Scanner:
    """One pass over the rows. What there is of each row goes to the disk, so memory does not grow with them."""

    def __init__(self, rows: RowFile, form: FoundForm, kept: Path) -> None:
        self._rows, self._form, self._kept = rows, form, kept
        self._found = Scan()
        self._columns: dict[str, None] = {}
        self._notes: dict[tuple[NoteCode, str | None], list[int]] = {}
        self._counts: Counter[tuple[NoteCode, str | None]] = Counter()
        self._left_out: list[int] = []

    def scan(self, report: Callable[[float], None]) -> Scan:
        path = self._kept / f".{secrets.token_hex(8)}"
        try:
            digests: npt.NDArray[np.uint64] = np.memmap(path, np.uint64, "w+", shape=(len(self._rows) + 1,))
            told = time.monotonic()
            for index, row in enumerate(self._rows):
                digests[index] = self._look(index, row.checked)
                if (now := time.monotonic()) - told > TELL_EVERY_S:
                    told = now
                    report(index / len(self._rows))
            self._found.equal = equal_rows(digests[:-1])
        finally:
            with suppress(FileNotFoundError):
                path.unlink()
        return self._finished()

    def _look(self, index: int, values: Callable[[], Mapping[str, Any]]) -> int:
        """The digest of a row's example; 0 for one that is left out."""
        try:
            row = values()
            if len(self._columns) < MOST_KEYS and not self._columns.keys() >= row.keys():
                self._columns.update(dict.fromkeys(str(key) for key in row))
            read = self._form.read(row)
            digest = digest_of(read.example) or 1
        except BadRowError as error:
            self._is_bad(index, error.message)
            if error.kind is not None:
                self._note(error.kind, index)
        except RecursionError:
            self._is_bad(index, Message(N_("it is nested too deeply")))
        except RowLeftOutError:
            self._note("all_prompt", index)
        else:
            for key in read.unused:
                self._note("unused_key", index, key)
            if read.has_empty_answer:
                self._note("empty_answer", index)
            if index == len(self._left_out):
                self._found.has_chats = isinstance(read.example, Chat)
            return digest
        self._left_out.append(index)
        return 0

    def _is_bad(self, index: int, reason: Message) -> None:
        self._found.num_bad += 1
        if len(self._found.bad) < MOST_NAMED:
            self._found.bad.append((index, reason))

    def _note(self, code: NoteCode, index: int, detail: str | None = None) -> None:
        key = (code, detail)
        if key not in self._notes and len(self._notes) >= MOST_KEYS:
            key = ("unused_key", "…")
        rows = self._notes.setdefault(key, [])
        self._counts[key] += 1
        if len(rows) < MOST_NAMED:
            rows.append(index + 1)

    def _finished(self) -> Scan:
        found = self._found
        found.columns = list(self._columns)[:MOST_KEYS]
        found.left_out = np.array(self._left_out, np.uint64)
        found.notes = [
            RowNote(code=code, count=self._counts[code, detail], rows=rows, detail=detail)
            for (code, detail), rows in self._notes.items()
        ]
        if len(found.equal):
            first = [int(row) + 1 for row in found.equal[:MOST_NAMED, 0]]
            found.notes.append(RowNote(code="duplicate", count=len(found.equal), rows=first))
        return found


def equal_rows(digests: npt.NDArray[np.uint64]) -> Places:
    """Pairs of a row and the first one with the same digest, in order of the rows; of digests that are not 0."""
    ordered = np.sort(digests)
    repeated = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    del ordered
    repeated = repeated[repeated != 0]
    if not len(repeated):
        return np.zeros((0, 2), np.uint64)
    first = np.full(len(repeated), -1, np.int64)
    pairs = []
    for begin in range(0, len(digests), CHUNK):
        chunk = digests[begin : begin + CHUNK]
        group = np.minimum(np.searchsorted(repeated, chunk), len(repeated) - 1)
        for within in np.flatnonzero(repeated[group] == chunk):
            if first[group[within]] < 0:
                first[group[within]] = begin + within
            else:
                pairs.append((begin + within, first[group[within]]))
    return np.array(pairs, np.uint64).reshape(-1, 2)


def _known(card: Path) -> Scan | None:
    try:
        said = read_json(card)
        found = Scan(
            bad=[(int(index), Message.from_json(message)) for index, message in said["bad"]],
            num_bad=int(said["num_bad"]),
            notes=[RowNote(**note) for note in said["notes"]],
            has_chats=bool(said["has_chats"]),
            columns=[str(column) for column in said["columns"]],
            left_out=_mapped(card, "left_out", int(said["num_left_out"])),
            equal=_mapped(card, "equal", 2 * int(said["num_equal"])).reshape(-1, 2),
        )
        os.utime(card)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found


def _mapped(card: Path, what: str, count: int) -> Places:
    """Numbers kept beside a card."""
    path = card.with_suffix(f".{what}")
    if not count:
        return np.zeros(0, np.uint64)
    if path.stat().st_size != 8 * count:
        raise ValueError("another length")
    os.utime(path)
    return np.memmap(path, np.uint64, "r", shape=(count,))


def _keep(found: Scan, card: Path) -> None:
    for what, numbers in (("left_out", found.left_out), ("equal", found.equal)):
        if len(numbers):
            made = card.with_name(f".{secrets.token_hex(8)}")
            with made.open("xb") as file:
                numbers.tofile(file)
                os.fsync(file.fileno())
            made.replace(card.with_suffix(f".{what}"))
    said = {
        "bad": [[index, message.to_json()] for index, message in found.bad],
        "num_bad": found.num_bad,
        "notes": [note.to_json() for note in found.notes],
        "has_chats": found.has_chats,
        "columns": found.columns,
        "num_left_out": len(found.left_out),
        "num_equal": len(found.equal),
    }
    write_json(card, said)
