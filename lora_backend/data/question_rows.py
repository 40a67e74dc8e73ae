"""Questions to ask after training: JSONL whose rows hold `messages` that end with the user."""

from __future__ import annotations

import codecs
import hashlib
import io
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from lora_backend.data.raw_rows import MAX_ROW_BYTES
from lora_backend.data.unpacking import open_rows
from lora_backend.errors import DataError, FlightdeckError
from lora_backend.formats import size
from lora_backend.i18n import N_, Message

ROLES = ("system", "user", "assistant", "tool")


def digested(lines: BinaryIO, digest: hashlib._Hash) -> Iterator[bytes]:
    """Every line, and what all of them are together; one that is too long is cut, to be refused by its length."""
    while line := lines.readline(MAX_ROW_BYTES + 1):
        digest.update(line)
        yield line


def parse_questions(data: bytes, file: str) -> list[dict[str, Any]]:
    """Questions to ask after training: rows of `messages` that end with the user, and `expect`, a list of texts.

    An answer counts as right when it contains one of `expect`; `group` (optional) is what answers are counted by.
    """
    return list(question_rows(io.BytesIO(data), file))


def question_rows(lines: Iterable[bytes], file: str) -> Iterator[dict[str, Any]]:
    """Each question of `parse_questions`. Raises `DataError` for the first that is wrong, and for none."""
    is_empty = True
    for number, row in parse_rows(lines, file):
        messages, expect = row.get("messages"), row.get("expect", [])
        if not _are_messages(messages) or row["messages"][-1]["role"] != "user":
            raise _bad_row(file, number, N_("`messages` must be a list of role and content that ends with the user"))
        if not isinstance(expect, list) or not all(isinstance(item, str) and item for item in expect):
            raise _bad_row(file, number, N_("`expect` must be a list of texts"))
        is_empty = False
        yield {"messages": messages, "expect": expect, "group": str(row.get("group", ""))}
    if is_empty:
        raise DataError(N_("The question file {file} is empty. Put one JSON object on each line."), file=file)


def read_bytes(path: Path) -> bytes:
    """All of a file of rows. Raises `DataError` where it is not there or cannot be read."""
    with open_rows(path) as file:
        return file.read()


def sha256_of_bytes(content: bytes) -> str:
    """The hash of a file that was read."""
    return hashlib.sha256(content).hexdigest()


def parse_rows(lines: Iterable[bytes], file: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line number (from 1) and object of every line that is not blank."""
    for number, whole in enumerate(lines, start=1):
        line = whole.removeprefix(codecs.BOM_UTF8) if number == 1 else whole
        if line.isspace() or not line:
            continue
        if len(line) > MAX_ROW_BYTES:
            raise DataError(
                N_(
                    "Line {line} of {file} has more than {limit}, which is too long for a row. Put each row on a line of its own."
                ),
                line=number,
                file=file,
                limit=size(MAX_ROW_BYTES),
            )
        try:
            row = json.loads(line.decode("utf-8"))
        except UnicodeDecodeError:
            raise DataError(
                N_("Line {line} of {file} is not UTF-8. Save the file as UTF-8."), line=number, file=file
            ) from None
        except (ValueError, RecursionError) as error:
            raise DataError(
                N_("Line {line} of {file} is not JSON ({reason}). Put one JSON object on each line."),
                line=number,
                file=file,
                reason=str(getattr(error, "msg", error)),
            ) from None
        if not isinstance(row, dict):
            raise _bad_row(file, number, N_("a row must be a JSON object"))
        yield number, row


def _are_messages(messages: Any) -> bool:
    return (
        isinstance(messages, list)
        and bool(messages)
        and all(
            isinstance(message, dict) and message.get("role") in ROLES and isinstance(message.get("content"), str)
            for message in messages
        )
    )


def _bad_row(file: str, number: int, reason: str) -> FlightdeckError:

    return DataError(
        N_("Line {line} of {file}: {reason}. Fix or remove that line."), line=number, file=file, reason=Message(reason)
    )
