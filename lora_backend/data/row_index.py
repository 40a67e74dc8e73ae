"""Where each row of a file begins: made in one pass, kept by the file's content, and looked up without reading the file.

What is no JSONL is written down as JSONL once, row by row. Memory stays the same however large a file is: an index is mapped.
"""

from __future__ import annotations

import codecs
import hashlib
import json
import os
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import IO, Any

import numpy as np

from lora_backend.atomic import write_json
from lora_backend.bounded import read_json
from lora_backend.data.arrow_rows import arrow_rows, parquet_rows
from lora_backend.data.delimited_rows import delimited_rows
from lora_backend.data.raw_rows import MAX_ROW_BYTES, RawRow, too_long
from lora_backend.data.source_files import SourceFile
from lora_backend.data.text_rows import json_rows, jsonl_rows
from lora_backend.data.unpacking import (
    BUFFER_BYTES,
    MOST_UNPACKED_BYTES,
    Position,
    open_rows,
    open_seekable,
    open_unpacked,
    packing_of,
    unpacks_to_more,
)
from lora_backend.errors import DataError
from lora_backend.i18n import N_, Message

RULES = 1
"""Raised when the same file would be indexed or written down otherwise."""
SAME_TICK_NS = 50_000_000
"""A file that was written so shortly before it was read may have been written again without a new time."""
SMALL_BYTES = 2**20
"""Less is read anew each time: that takes no longer than to be sure that what is kept survives a crash."""
UNUSED_S = 30 * 86400.0
"""What nobody has looked at for so long is removed; it can be made again."""
TELL_EVERY_S = 0.2
SHARE_OF_HASH = 0.1
"""Of the time that a file takes which has to be written down."""
Report = Callable[[float], None]
"""Is told how much of the bytes is read, from 0 to 1."""


@dataclass(frozen=True)
class IndexedFile:
    """A file of rows, and where each of them begins."""

    source: SourceFile
    sha256: str
    """Of the source's bytes."""
    jsonl: Path
    """What rows are read from: the source itself, or what was written down of it."""
    index: Path
    num_rows: int
    stamp: tuple[int, ...]
    """Of the source when it was read (`stamp_of`)."""

    @property
    def is_own(self) -> bool:
        """Whether rows are read from the source itself."""
        return self.jsonl == self.source.path

    @property
    def size_bytes(self) -> int:
        """Of what rows are read from."""
        return self.stamp[2] if self.is_own else self.jsonl.stat().st_size


def read_source(
    source: SourceFile, most_bytes: int = MOST_UNPACKED_BYTES, position: Position | None = None
) -> Iterator[RawRow]:
    """Each row from the beginning on, without an index; `position` says how far the file is read. Raises `DataError` where the file breaks off."""
    name = source.name
    if source.kind in ("parquet", "arrow"):
        with open_seekable(source.path, most_bytes, position) as file:
            yield from (parquet_rows if source.kind == "parquet" else arrow_rows)(file, name)
        return
    with open_unpacked(source.path, most_bytes, position) as stream:
        if source.kind in ("csv", "tsv"):
            yield from delimited_rows(stream, name, "\t" if source.kind == "tsv" else None)
        else:
            yield from (json_rows if source.kind == "json" else jsonl_rows)(stream, name)


def indexed(source: SourceFile, kept: Path, report: Report, most_bytes: int = MOST_UNPACKED_BYTES) -> IndexedFile:
    """A file with its index, which is made where `kept` has none of the same content."""
    with open_rows(source.path) as file:
        found = os.fstat(file.fileno())
        card = kept / f"file-{_key(found, source)}.json"
        is_plain = source.kind == "jsonl" and packing_of(file.peek(4)[:4]) is None
        known = _known(card, found, source, kept, is_plain=is_plain)
        if known is not None:
            return known
        kept.mkdir(parents=True, exist_ok=True)
        _remove_unused(kept)
        read_at_ns = time.time_ns()
        if is_plain:
            with _made(kept) as made:
                sha256, num_rows = _index_lines(file, made, _told(report, found.st_size))
                _to_disk(made, found.st_size)
                Path(made.name).replace(_place(kept, sha256, source, "index"))
        else:
            sha256 = _sha256(file, _told(lambda share: report(share * SHARE_OF_HASH), found.st_size))
            tell = _told(lambda share: report(SHARE_OF_HASH + share * (1 - SHARE_OF_HASH)), found.st_size)
            num_rows = _write_down(source, sha256, kept, tell, most_bytes)
        if stamp_of(os.fstat(file.fileno())) != stamp_of(found):
            raise changed(source)
    made_of = _file(source, sha256, num_rows, kept, stamp_of(found), is_plain=is_plain)
    if made_of.size_bytes > SMALL_BYTES:
        write_json(card, {"sha256": sha256, "num_rows": num_rows, "read_at_ns": read_at_ns})
    return made_of


def stamp_of(found: os.stat_result) -> tuple[int, ...]:
    """The same while a file is."""
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def changed(source: SourceFile) -> DataError:
    """The error for a file that somebody writes to meanwhile."""
    return DataError(N_("{file} changed while it was read. Leave it unchanged, and start again."), file=source.name)


def _key(found: os.stat_result, source: SourceFile) -> str:
    return hashlib.sha256(repr((*stamp_of(found), source.kind, RULES)).encode()).hexdigest()[:32]


def _known(card: Path, found: os.stat_result, source: SourceFile, kept: Path, *, is_plain: bool) -> IndexedFile | None:
    try:
        said = read_json(card)
        sha256, num_rows, read_at_ns = str(said["sha256"]), int(said["num_rows"]), int(said["read_at_ns"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if read_at_ns - max(found.st_mtime_ns, found.st_ctime_ns) < SAME_TICK_NS:
        return None
    file = _file(source, sha256, num_rows, kept, stamp_of(found), is_plain=is_plain)
    try:
        if file.index.stat().st_size != 16 * (num_rows + 1):
            return None
        for path in {card, file.index} | (set() if is_plain else {file.jsonl}):
            os.utime(path)
    except OSError:
        return None
    return file


def _file(
    source: SourceFile, sha256: str, num_rows: int, kept: Path, stamp: tuple[int, ...], *, is_plain: bool
) -> IndexedFile:
    jsonl = source.path if is_plain else _place(kept, sha256, source, "jsonl")
    return IndexedFile(source, sha256, jsonl, _place(kept, sha256, source, "index"), num_rows, stamp)


def _place(kept: Path, sha256: str, source: SourceFile, what: str) -> Path:
    return kept / f"{sha256}-{source.kind}-{RULES}.{what}"


@contextmanager
def _made(kept: Path) -> Iterator[IO[bytes]]:
    """A new file in `kept`, for the block to move to its place; gone where it did not."""
    path = kept / f".{secrets.token_hex(8)}"
    try:
        with path.open("xb", buffering=BUFFER_BYTES) as file:
            yield file
    finally:
        with suppress(FileNotFoundError):
            path.unlink()


def _told(report: Report, size_bytes: int) -> Callable[[int], None]:
    """Tells `report` now and then how much is done, from bytes; never less than before, for a table is read by jumps."""
    last, furthest = 0.0, 0

    def tell(position: int) -> None:
        nonlocal last, furthest
        furthest = max(position, furthest)
        if (now := time.monotonic()) - last > TELL_EVERY_S:
            last = now
            report(min(furthest / max(size_bytes, 1), 1.0))

    return tell


def _sha256(file: BufferedReader, tell: Callable[[int], None]) -> str:
    digest = hashlib.sha256()
    while block := file.read(BUFFER_BYTES):
        digest.update(block)
        tell(file.tell())
    return digest.hexdigest()


def _index_lines(file: BufferedReader, index: IO[bytes], tell: Callable[[int], None]) -> tuple[str, int]:
    """Begin and line number of each line that is not blank, as pairs of 64 bits, then the end; hash and number of rows."""
    digest, num_rows = hashlib.sha256(), 0
    begin, line, is_blank, position = 0, 1, True, 0  # of the line that is being read
    while block := file.read(BUFFER_BYTES):
        digest.update(block)
        tell(position)
        content = block
        if position == 0 and block.startswith(codecs.BOM_UTF8):
            content = b"   " + block[3:]
        signs = np.frombuffer(content, np.uint8)
        ends = np.flatnonzero(signs == 10)
        if len(ends):
            begins = np.concatenate(([0], ends[:-1] + 1))
            is_row = signs[begins] > 32  # what begins with a blank may be one, the rest may not
            for place in np.flatnonzero(~is_row):
                is_row[place] = bool(content[begins[place] : ends[place]].strip())
            is_row[0] |= not is_blank
            absolute = begins + position
            absolute[0] = begin
            pairs = np.stack((absolute[is_row], line + np.flatnonzero(is_row)), axis=1)
            index.write(pairs.astype(np.uint64).tobytes())
            num_rows += len(pairs)
            line += len(ends)
            begin, is_blank = position + int(ends[-1]) + 1, True
        is_blank = is_blank and not content[begin - position if len(ends) else 0 :].strip()
        position += len(block)
    last = [] if is_blank else [(begin, line)]
    index.write(np.array([*last, (position, 0)], np.uint64).tobytes())
    return digest.hexdigest(), num_rows + len(last)


def _write_down(source: SourceFile, sha256: str, kept: Path, tell: Callable[[int], None], most_bytes: int) -> int:
    """Write the rows of a file as JSONL, with its index, where that was not done; how many there are."""
    index_path, jsonl_path = _place(kept, sha256, source, "index"), _place(kept, sha256, source, "jsonl")
    with suppress(OSError):
        if jsonl_path.stat().st_size > SMALL_BYTES:
            return index_path.stat().st_size // 16 - 1
    position, num_rows, place = 0, 0, Position()
    with _made(kept) as jsonl, _made(kept) as index:
        for row in read_source(source, most_bytes, place):
            line = _as_line(row)
            index.write(np.array((position, row.line or 0), np.uint64).tobytes())
            jsonl.write(line)
            position += len(line)
            num_rows += 1
            if position > most_bytes:
                raise unpacks_to_more(source.name, most_bytes)
            tell(place.bytes)
        index.write(np.array((position, 0), np.uint64).tobytes())
        jsonl.write(b"\n")  # so that it is not empty
        for file in (index, jsonl):
            _to_disk(file, position)
        Path(index.name).replace(index_path)
        Path(jsonl.name).replace(jsonl_path)
    return num_rows


def _to_disk(file: IO[bytes], size_bytes: int) -> None:
    """Whole before a name is given to it, as far as it is kept."""
    file.flush()
    if size_bytes > SMALL_BYTES:
        os.fsync(file.fileno())


def _as_line(row: RawRow) -> bytes:
    """A good row as an object, a bad one as a list with its sentence."""
    value: Any = [row.problem.to_json()] if row.problem is not None else row.values
    try:
        text = json.dumps(value, ensure_ascii=False, default=_as_json, separators=(",", ":"))
    except RecursionError:
        text = json.dumps([Message(N_("it is nested too deeply")).to_json()])
    try:
        line = text.encode() + b"\n"
    except UnicodeEncodeError:  # half a surrogate pair
        line = json.dumps(value, default=_as_json, separators=(",", ":")).encode() + b"\n"
    if len(line) > MAX_ROW_BYTES and row.problem is None:
        return json.dumps([too_long().to_json()]).encode() + b"\n"
    return line


def _as_json(value: object) -> Any:
    """What a table may hold beside JSON's kinds."""
    return {"bytes": len(value)} if isinstance(value, bytes) else str(value)


def _remove_unused(kept: Path) -> None:
    """Remove what nobody has looked at for long, and what was left half done."""
    with suppress(OSError):
        for path in kept.iterdir():
            age_s = time.time() - path.stat().st_mtime
            if path.is_file() and age_s > (UNUSED_S if not path.name.startswith(".") else UNUSED_S / 30):
                path.unlink(missing_ok=True)
