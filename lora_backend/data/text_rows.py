"""Rows of JSONL, and of a JSON list, one after the other."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

from lora_backend.data.raw_rows import MAX_ROW_BYTES, RawRow, too_long
from lora_backend.errors import DataError
from lora_backend.i18n import N_, Message

READ_CHARS = 2**16


def parsed(line: bytes) -> dict[str, Any] | Message:
    """The object on a line, or what is wrong with it."""
    if len(line) > MAX_ROW_BYTES:
        return too_long()
    try:
        row = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError:
        return Message(N_("the text is not UTF-8; save the file as UTF-8"))
    except (ValueError, RecursionError) as error:
        reason = str(getattr(error, "msg", error))
        return Message(N_("the line is not JSON ({reason}); put one JSON object on each line"), {"reason": reason})
    return _checked(row)


def _checked(row: object) -> dict[str, Any] | Message:
    return row if isinstance(row, dict) else Message(N_("a row must be a JSON object"))


def row_of(found: dict[str, Any] | Message, number: int, line: int | None, file: str) -> RawRow:
    """A row from what `parsed` gave."""
    if isinstance(found, Message):
        return RawRow(number, line, file, None, found)
    return RawRow(number, line, file, found)


def jsonl_rows(lines: BinaryIO, file: str) -> Iterator[RawRow]:
    """Each line that is not blank."""
    number = 0
    for at, line in enumerate(_lines(lines), start=1):
        text = line.removeprefix(codecs.BOM_UTF8) if at == 1 else line
        if text and not text.isspace():
            number += 1
            yield row_of(parsed(text), number, at, file)


def _lines(stream: BinaryIO) -> Iterable[bytes]:
    """Every line; of one that is too long its beginning, which is too long as well."""
    while line := stream.readline(MAX_ROW_BYTES + 1):
        yield line
        while len(line) > MAX_ROW_BYTES and not line.endswith(b"\n"):
            line = stream.readline(MAX_ROW_BYTES + 1)


def json_rows(stream: BinaryIO, file: str) -> Iterator[RawRow]:
    """Each object of a JSON list, of which no more than one is held at a time. Raises `DataError` where it is none."""
    text = _Text(stream, file)
    if text.next_sign() != "[":
        raise _not_json(file, text.line, "Expecting '['")
    text.skip(1)
    number = 0
    while (sign := text.next_sign()) != "]":
        if number:
            if sign != ",":
                raise _not_json(file, text.line, "Expecting ',' or ']'" if sign else "Unexpected end")
            text.skip(1)
            text.next_sign()
        line = text.line
        number += 1
        yield row_of(_checked_size(*text.take()), number, line, file)
    text.skip(1)
    if text.next_sign():
        raise _not_json(file, text.line, "Extra data")


def _checked_size(row: object, length: int) -> dict[str, Any] | Message:
    return too_long() if length > MAX_ROW_BYTES else _checked(row)


def _not_json(file: str, line: int, reason: str) -> DataError:
    return DataError(
        N_("Line {line} of {file} is not JSON ({reason}). Fix it, or put one JSON object on each line."),
        line=line,
        file=file,
        reason=reason,
    )


class _Text:
    """A window on a JSON text that moves along it."""

    def __init__(self, stream: BinaryIO, file: str) -> None:
        self._decoder = json.JSONDecoder()
        self._decode = codecs.getincrementaldecoder("utf-8")()
        self._stream, self._file = stream, file
        self._text, self._at = "", 0
        self.line = 1

    def _more(self, size: int = READ_CHARS) -> bool:
        data = self._stream.read(size)
        try:
            new = self._decode.decode(data, final=not data)
        except UnicodeDecodeError:
            raise DataError(N_("{file} is not UTF-8. Save the file as UTF-8."), file=self._file) from None
        if self._at == 0 and not self._text:
            new = new.removeprefix("\ufeff")
        self._text, self._at = self._text[self._at :] + new, 0
        return bool(data)

    def next_sign(self) -> str:
        """The next character that is no blank; empty at the end."""
        while True:
            rest = self._text[self._at : self._at + READ_CHARS]
            blank = len(rest) - len(rest.lstrip(" \t\r\n"))
            self.skip(blank)
            if self._at < len(self._text):
                if self._text[self._at] not in " \t\r\n":
                    return self._text[self._at]
            elif not self._more():
                return ""

    def skip(self, count: int) -> None:
        self.line += self._text.count("\n", self._at, self._at + count)
        self._at += count

    def take(self) -> tuple[object, int]:
        """The value that begins here, and how long it is. Raises `DataError` where there is none."""
        size = READ_CHARS
        while True:
            try:
                value, end = self._decoder.raw_decode(self._text, self._at)
            except (ValueError, RecursionError) as error:
                size *= 2  # so that a long row is not tried for every part of it
                if len(self._text) - self._at <= MAX_ROW_BYTES and self._more(size):
                    continue
                line = self.line + self._text.count("\n", self._at, getattr(error, "pos", self._at))
                raise _not_json(self._file, line, str(getattr(error, "msg", error))) from None
            length = end - self._at
            self.skip(length)
            return value, length
