"""Some rows of a data set changed or left out, written into a new file; the old one stays as it is."""

from __future__ import annotations

import codecs
import hashlib
import json
import os
import re
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from lora_backend import outside
from lora_backend.bounded import load_json
from lora_backend.data.local_files import ending_of
from lora_backend.data.raw_rows import MAX_ROW_BYTES, too_long
from lora_backend.data.row_index import read_source
from lora_backend.data.source_files import Source, SourceFile, find_source
from lora_backend.data.summary import INLINE_BYTES, LEAST_DEADLINE_S, SLOWEST_BYTES_PER_S
from lora_backend.data.unpacking import open_unpacked
from lora_backend.data.uploads import STAGED
from lora_backend.errors import DataError
from lora_backend.i18n import N_, Message
from lora_backend.symlinks import open_unlinked_folder

Edits = Mapping[int, str | None]
"""Row number, from 1 → the row as JSON; None leaves it out."""
TELL_EVERY = 2000
"""Rows."""
_OWN_ENDING = re.compile(r"(-edited)?(-[0-9a-f]{8}|-[0-9a-f]{64})?$")


def checked_row(text: str, row: int) -> str:
    """The JSON object of a row in one line. Raises `DataError` that says what is wrong with what was typed."""
    try:
        found = load_json(text.encode("utf-8", "surrogatepass"), f"row {row}")
    except UnicodeDecodeError as error:
        raise DataError(N_("Row {row} contains half of a character. Remove it."), row=row) from error
    except ValueError as error:
        reason = str(getattr(error, "msg", error))
        line = getattr(error, "lineno", 1)
        raise DataError(
            N_("Row {row} is not JSON: {reason}, in line {line} of what you typed."), row=row, reason=reason, line=line
        ) from error
    if not isinstance(found, dict):
        raise DataError(N_("Row {row} must be a JSON object, as in {example}."), row=row, example='{"messages": […]}')
    return in_one_line(found)


def in_one_line(row: Mapping[str, Any]) -> str:
    """A row as a line of JSONL."""
    text = json.dumps(row, ensure_ascii=False, default=str)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:  # half a surrogate pair is `\\ud800` in JSON
        return json.dumps(row, default=str)
    return text


def write_edited(
    source: Path,
    edits: Edits,
    folder: Path,
    on_progress: Callable[[float], None] = lambda _: None,
    *,
    split: str | None = None,
    name: str | None = None,
) -> Path:
    """Write the rows of `source` with `edits` into a new file in `folder`, which is named after both. Raises `DataError`,
    `OSError`. `name`: what the source is called, where its path does not say so.

    The same edits of the same file give the same file. A large one is copied in a process of its own.
    """
    folder.mkdir(parents=True, exist_ok=True)
    checked = {row: None if text is None else checked_row(text, row) for row, text in edits.items()}
    size_bytes = sum(file.path.stat().st_size for file in find_source(source, split).files)
    arguments = (str(source), _keyed(checked), str(folder), split, name or source.name)
    if size_bytes <= INLINE_BYTES:
        return Path(copy_with(*arguments))
    deadline_s = LEAST_DEADLINE_S + size_bytes / SLOWEST_BYTES_PER_S
    return Path(outside.call(f"{__name__}:copy_with", *arguments, deadline_s=deadline_s, on_progress=on_progress))


def _keyed(edits: Edits) -> dict[str, str | None]:
    return {str(row): text for row, text in edits.items()}


def copy_with(source: str, edits: dict[str, str | None], folder: str, split: str | None, name: str) -> str:
    """What the process does: the path of the new file."""
    changes = {int(row): text for row, text in edits.items()}
    staged = Path(folder).resolve() / f"{STAGED}{secrets.token_hex(16)}"
    try:
        sha256, num_rows, last = _copy(_told(source, split), changes, staged)
        if beyond := [row for row in changes if row > last]:
            raise DataError(
                N_("{file} has {last} rows, so there is no row {row} to change. Reload the page."),
                file=name, last=last, row=min(beyond),
            )  # fmt: skip
        if num_rows == 0:
            raise DataError(N_("Every row of {file} is left out. Keep at least one."), file=name)
        target = staged.with_name(edited_name(name, sha256))
        staged.replace(target)
    except BaseException:
        with suppress(OSError):
            staged.unlink(missing_ok=True)
        raise
    return str(target)


def _told(source: str, split: str | None) -> Iterator[tuple[int, bytes | DataError]]:
    """The lines, and to whoever waits how much of the file is read."""
    found = find_source(Path(source), split)
    size_bytes, done = max(sum(file.path.stat().st_size for file in found.files), 1), 0
    for number, line in lines_of(found):
        done += len(line) if isinstance(line, bytes) else 0
        if number % TELL_EVERY == 0:
            outside.progress(min(done / size_bytes, 1.0))
        yield number, line


def edited_name(source: str, sha256: str) -> str:
    """`chats-edited-1a2b3c4d.jsonl` for an edit of `chats.csv`, and for the next edit of that one."""
    stem = source[: len(source) - len(ending_of(source))] or "data"
    stem = _OWN_ENDING.sub("", stem) or stem
    short = stem.encode("utf-8", "ignore")[:80].decode("utf-8", "ignore")
    return f"{short}-edited-{sha256[:8]}.jsonl"


def lines_of(source: Source) -> Iterator[tuple[int, bytes | DataError]]:
    """Number of each row and its line of JSONL, as its file has it or made of what a table has; of one that cannot be
    carried over, why."""
    number = 0
    for file in source.files:
        lines = _own_lines(file) if file.kind == "jsonl" else _made_lines(file)
        for line in lines:
            number += 1
            if isinstance(line, bytes):
                yield number, line
            else:
                yield number, _stays_behind(file.name, number, line)


def _own_lines(file: SourceFile) -> Iterator[bytes | Message]:
    with open_unpacked(file.path) as stream:
        is_first = True
        while line := stream.readline(MAX_ROW_BYTES + 1):
            text = line.removeprefix(codecs.BOM_UTF8) if is_first else line
            is_first = False
            is_whole = len(line) <= MAX_ROW_BYTES
            while len(line) > MAX_ROW_BYTES and not line.endswith(b"\n"):
                line = stream.readline(MAX_ROW_BYTES + 1)
            if text.strip():
                yield text if is_whole else too_long()


def _made_lines(file: SourceFile) -> Iterator[bytes | Message]:
    for row in read_source(file):
        if row.values is None:
            yield row.problem or too_long()
        else:
            yield in_one_line(row.values).encode()


def _stays_behind(file: str, row: int, reason: Message) -> DataError:
    return DataError(
        N_("Row {row} of {file} cannot be copied: {reason}. Fix it or leave it out."), row=row, file=file, reason=reason
    )


def _copy(lines: Iterable[tuple[int, bytes | DataError]], edits: Edits, target: Path) -> tuple[str, int, int]:
    """The hash of what is written, how many rows that are, and the last row of the source."""
    digest, num_rows, last = hashlib.sha256(), 0, 0
    folder = open_unlinked_folder(target.parent)
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        with os.fdopen(os.open(target.name, flags, 0o666, dir_fd=folder), "wb") as file:
            for last, line in lines:
                text = edits.get(last, line)
                if text is None:
                    continue
                if isinstance(text, DataError):
                    raise text
                data = (text.encode("utf-8") if isinstance(text, str) else text).rstrip(b"\r\n") + b"\n"
                digest.update(data)
                file.write(data)
                num_rows += 1
            file.flush()
            os.fsync(file.fileno())
    finally:
        os.close(folder)
    return digest.hexdigest(), num_rows, last
