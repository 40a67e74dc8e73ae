"""A run's log in parts, by byte offset: its end, what came before it, and the records that are searched for."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from lora_backend.bounded import open_regular
from lora_backend.errors import RunError
from lora_backend.i18n import N_
from lora_backend.runs.record.run_folder import RunFolder
from lora_backend.symlinks import is_unlinked_file

PART_BYTES = 32_000
SEARCHED_BYTES = 16 << 20
"""How far back one search looks from where it begins."""
LONGEST_LINE = 4_000
"""Characters of a line that are shown."""
MOST_FOUND = 200
LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
_RECORD = re.compile(rb"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d[,.]\d+ (DEBUG|INFO|WARNING|ERROR|CRITICAL) ", re.MULTILINE)
"""How a record of ours begins; lines that follow without it (a traceback, a library's output) belong to it."""


@dataclass(frozen=True)
class LogPart:
    """Whole lines of a log, and which bytes of the file they come from."""

    text: str
    start: int
    end: int
    size_bytes: int
    """Of the whole file."""
    num_found: int = 0
    """Records that a search found."""

    @property
    def is_newest(self) -> bool:
        return self.end >= self.size_bytes


def read_log(path: Path, end: int | None = None, max_bytes: int = PART_BYTES) -> LogPart:
    """The last lines before byte `end` (None: the file's end), from a whole line on. Empty where there is no file."""
    data, start, stop, size_bytes = _read(path, end, max_bytes)
    return LogPart(_text(data), start, stop, size_bytes)


def logs_of(run: RunFolder) -> dict[int, Path]:
    """The logs that are there, by the rank of the process: one, or one for each of those that train together."""
    others = (int(path.stem) for path in run.peer_logs.glob("*.log") if path.stem.isdecimal() and path.stem.isascii())
    return {rank: run.peer_log(rank) for rank in sorted({0, *others}) if is_unlinked_file(run.peer_log(rank))}


def log_of(run: RunFolder, rank: int) -> Path:
    """The log of one process. Raises `RunError` where it has none."""
    found = logs_of(run)
    if rank not in found:
        raise RunError(
            N_("Run {id} has no log of process {rank}. It has logs of: {ranks}."),
            id=run.id,
            rank=rank,
            ranks=", ".join(map(str, found)) or "–",
        )
    return found[rank]


def search_log(
    path: Path, words: str = "", level: str = LEVELS[0], end: int | None = None, most: int = MOST_FOUND
) -> LogPart:
    """The newest `most` records before byte `end` that hold every one of `words`, at `level` or above.

    A record is a line of ours with the lines that follow it; lines before the first are one without a level, which
    only the lowest level shows. Upper and lower case are the same. `start` is how far back was looked.
    """
    data, start, stop, size_bytes = _read(path, end, SEARCHED_BYTES)
    wanted = [word.lower() for word in words.split()]
    levels = {name.encode() for name in LEVELS[LEVELS.index(level) :]}
    heads = [(match.start(), match[1]) for match in _RECORD.finditer(data)]
    if (not heads or heads[0][0]) and level == LEVELS[0]:
        heads.insert(0, (0, LEVELS[0].encode()))
    found: list[str] = []
    for (begin, name), (after, _) in reversed(list(pairwise([*heads, (len(data), b"")]))):
        if name not in levels:
            continue
        text = _text(data[begin:after])
        if text and all(word in text.lower() for word in wanted):
            found.append(text)
        if len(found) == most:
            start += begin
            break
    return LogPart("".join(reversed(found)), start, stop, size_bytes, len(found))


def _read(path: Path, end: int | None, max_bytes: int) -> tuple[bytes, int, int, int]:
    """Bytes, where they begin and end in the file, and the file's size."""
    try:
        with open_regular(path, follow=False) as file:
            size_bytes = file.seek(0, 2)
            stop = size_bytes if end is None else min(max(end, 0), size_bytes)
            start = file.seek(max(0, stop - max_bytes))
            data = file.read(stop - start)
    except OSError:
        return b"", 0, 0, 0
    newline = data.find(b"\n", 0, len(data) - 1)
    if start and newline >= 0:  # a line longer than a part has no beginning here, and is shown from inside
        data, start = data[newline + 1 :], start + newline + 1
    return data, start, stop, size_bytes


def _text(data: bytes) -> str:
    lines = data.decode("utf-8", errors="replace").splitlines(keepends=True)
    return "".join(line if len(line) <= LONGEST_LINE else line[:LONGEST_LINE] + " …\n" for line in lines)
