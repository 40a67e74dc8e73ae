"""Open a file of rows for reading from its beginning, unpacked where it is gz or zst."""

from __future__ import annotations

import errno
import io
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, BinaryIO, Literal, cast

from lora_backend.bounded import open_regular
from lora_backend.errors import DataError, FileRefusedError, FlightdeckError
from lora_backend.formats import size
from lora_backend.i18n import N_

Packing = Literal["gzip", "zstd"]
MAGIC: dict[bytes, Packing] = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}
ENDINGS = (".gz", ".zst", ".zstd")
BUFFER_BYTES = 2**20
UNREADABLE = (errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT, errno.EHOSTDOWN, errno.EREMOTEIO, errno.EISDIR)
"""What the system says of a disk that fails while it is read."""
MOST_UNPACKED_BYTES = 256 * 2**30
"""A file that unpacks to more was made to fill a disk."""


@contextmanager
def open_rows(path: Path) -> Iterator[io.BufferedReader]:
    """A file of rows as its bytes are. Raises `DataError` where it is not there or cannot be read.

    What else fails while it is open is not its fault, and passes through.
    """
    with _opened(path) as file:
        try:
            yield file
        except OSError as error:
            if isinstance(error, FlightdeckError) or error.errno not in UNREADABLE:
                raise
            raise _unreadable(path, error) from error


def _opened(path: Path) -> io.BufferedReader:
    try:
        return open_regular(path)
    except FileRefusedError as error:
        raise DataError(error.message.template, **error.message.values) from error
    except FileNotFoundError:
        raise DataError(N_("There is no data set {path}. Check the path."), path=str(path)) from None
    except (OSError, ValueError) as error:  # a null byte in the name is a ValueError
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> DataError:
    reason = getattr(error, "strerror", None) or str(error)
    return DataError(N_("The data set {path} cannot be read: {reason}."), path=str(path), reason=reason)


def packing_of(head: bytes) -> Packing | None:
    """How a file that begins so is packed."""
    return next((packing for magic, packing in MAGIC.items() if head.startswith(magic)), None)


class Position:
    """How far a file is read, in bytes as they are on the disk."""

    def __init__(self) -> None:
        self.read_from: io.BufferedReader | None = None

    @property
    def bytes(self) -> int:
        return 0 if self.read_from is None or self.read_from.closed else self.read_from.tell()


@contextmanager
def open_unpacked(
    path: Path, most_bytes: int = MOST_UNPACKED_BYTES, position: Position | None = None
) -> Iterator[BinaryIO]:
    """What is in a file, from its beginning; `position` says from then on how far it is read.

    Raises `DataError`, also for one that is cut off or unpacks to too much.
    """
    with open_rows(path) as file:
        if position is not None:
            position.read_from = file
        packing = packing_of(file.peek(4)[:4])
        if packing is None:
            yield file
            return
        import pyarrow as pa

        try:
            stream = pa.CompressedInputStream(pa.PythonFile(file, "r"), packing)
            yield io.BufferedReader(_Limited(stream, path.name, most_bytes), BUFFER_BYTES)
        except DataError:
            raise
        except OSError as error:  # of pyarrow: no number of the system's
            if error.errno is not None:
                raise
            raise DataError(
                N_("{file} cannot be unpacked: it was cut off or is damaged. Copy or download it again."),
                file=path.name,
            ) from error


@contextmanager
def open_seekable(
    path: Path, most_bytes: int = MOST_UNPACKED_BYTES, position: Position | None = None
) -> Iterator[IO[bytes]]:
    """The same for a reader that jumps: what is packed is unpacked to the disk first, for as long as it is read."""
    with open_unpacked(path, most_bytes, position) as file:
        if file.seekable():
            yield file
            return
        with tempfile.TemporaryFile() as unpacked:
            while block := file.read(BUFFER_BYTES):
                unpacked.write(block)
            unpacked.seek(0)
            yield unpacked


class _Limited(io.RawIOBase):
    """A stream of pyarrow as Python's, of which no more than so much is read."""

    def __init__(self, stream: BinaryIO, file: str, most_bytes: int) -> None:
        self._stream, self._file, self._left, self._most = stream, file, most_bytes, most_bytes

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        view = memoryview(cast("bytearray", buffer)).cast("B")
        data = self._stream.read(len(view))
        self._left -= len(data)
        if self._left < 0:
            raise unpacks_to_more(self._file, self._most)
        view[: len(data)] = data
        return len(data)


def unpacks_to_more(file: str, most_bytes: int) -> DataError:
    """The error for a file that holds more than it seems."""
    return DataError(
        N_("{file} unpacks to more than {limit}. Unpack it yourself, and name the unpacked file."),
        file=file,
        limit=size(most_bytes),
    )
