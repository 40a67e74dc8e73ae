"""Names, shapes and types of the tensors in safetensors files, from their headers alone."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from lora_backend import outside
from lora_backend.bounded import MAX_JSON_BYTES, load_json, open_regular, read_json
from lora_backend.errors import FileRefusedError, ModelError
from lora_backend.formats import size
from lora_backend.i18n import N_, Message
from lora_backend.outside import OutsideError

MAX_HEADER_BYTES = MAX_JSON_BYTES
"""The format itself allows 100 MB, which take a gigabyte and a quarter of a minute. An adapter on each of DeepSeek-V3's
experts has 15 MB."""
MAX_TENSORS, MAX_SHARDS = 200_000, 1_000
MAX_SIDES, MAX_SIDE, MAX_DTYPE = 64, 2**63, 32
"""Of a tensor; numpy has no more sides, and the longest type's name has seven letters."""
INLINE_BYTES = 2**20
"""Of a header that is read at once; a larger one is read in a process of its own."""
MAX_NAME = 1_000
"""Characters in a tensor's name; the longest that are published have some 150."""


DTYPE_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16,
    "I32": 32, "U32": 32, "F32": 32, "I64": 64, "U64": 64, "F64": 64, "C64": 64, "F4": 4,
}  # fmt: skip
"""Size of one value, by the format's names; a type that is not here is taken as it is."""


class TensorInfo(NamedTuple):
    """What a header says of one tensor."""

    shape: tuple[int, ...]
    dtype: str
    """As safetensors writes it: F32, BF16, …"""
    size_bytes: int


def read_header(path: Path) -> dict[str, TensorInfo]:
    """Name → `TensorInfo`. Raises `ModelError` for a file that is cut off, or that lies about its lengths.

    Format: 8 bytes little-endian header length, a JSON object, then the tensors
    (https://huggingface.co/docs/safetensors). The length is checked before anything is read into memory.
    """
    length, stamp = _length_of_header(path)
    return parse_header(path) if length <= INLINE_BYTES else dict(_large(path, stamp))


@lru_cache(maxsize=8)
def _large(path: Path, stamp: tuple[int, ...]) -> dict[str, TensorInfo]:
    """Read once until the file changes: a page asks again at every click."""
    try:
        found = outside.call("lora_backend.models.headers:header_as_json", str(path))
    except OutsideError as error:
        raise ModelError(
            N_("The header of {path} could not be read: {reason} Save the file again with fewer tensors."),
            path=str(path),
            reason=error.message,
        ) from error
    return {name: TensorInfo(tuple(shape), dtype, size_bytes) for name, shape, dtype, size_bytes in found}


def header_as_json(path: str) -> list[tuple[str, tuple[int, ...], str, int]]:
    """What the process of its own does."""
    return [(name, *tensor) for name, tensor in parse_header(Path(path)).items()]


def _length_of_header(path: Path) -> tuple[int, tuple[int, ...]]:
    """And what the file is recognised by. Raises `ModelError` for a length that cannot be."""
    with _saying_what_is_wrong(path), open_regular(path) as file:
        found = os.fstat(file.fileno())
        length = int.from_bytes(file.read(8), "little")
        if found.st_size < 8 or length > found.st_size - 8:
            raise _damaged(path, N_("its header is longer than the file"))
        if length > MAX_HEADER_BYTES:
            raise _too_much(path, size(MAX_HEADER_BYTES))
    return length, (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)


@contextmanager
def _saying_what_is_wrong(path: Path) -> Iterator[None]:
    try:
        yield
    except FileRefusedError as error:
        raise ModelError(error.message.template, **error.message.values) from error
    except OSError as error:
        raise _damaged(path, "{error}", error=error.strerror or str(error)) from error
    except ValueError as error:
        if isinstance(error, ModelError):
            raise
        raise _damaged(path, N_("its header is not JSON")) from error


def parse_header(path: Path) -> dict[str, TensorInfo]:
    """`read_header` in this process, however long the header is."""
    length, (_, _, total_bytes, _) = _length_of_header(path)
    with _saying_what_is_wrong(path), open_regular(path) as file:
        file.seek(8)
        header = load_json(file.read(length), str(path))
    if not isinstance(header, dict):
        raise _damaged(path, N_("its header is not a JSON object"))
    if len(header) > MAX_TENSORS + 1:
        raise _too_much(path, N_("{count} tensors"), count=f"{MAX_TENSORS:,}")
    data_bytes = total_bytes - 8 - length
    tensors = {name: _tensor(path, name, entry, data_bytes) for name, entry in header.items() if name != "__metadata__"}
    _refuse_overlaps_and_gaps(path, header, data_bytes)
    return tensors


def _tensor(path: Path, name: str, entry: Any, data_bytes: int) -> TensorInfo:
    if len(name) > MAX_NAME:
        raise _damaged(
            path, N_("the name {name} has more than {limit} characters"), name=name[:80] + "…", limit=str(MAX_NAME)
        )
    try:
        begin, end = entry["data_offsets"]
        shape = tuple(entry["shape"])
        dtype = str(entry["dtype"])
    except (TypeError, KeyError, ValueError, OverflowError) as error:
        raise _damaged(path, N_("the entry of {name} is not readable"), name=name[:80]) from error
    if not isinstance(entry["shape"], list) or not set(map(type, shape)) <= {int} or len(dtype) > MAX_DTYPE:
        raise _damaged(path, N_("the entry of {name} is not readable"), name=name[:80])
    if len(shape) > MAX_SIDES or max(shape, default=0) > MAX_SIDE:  # their product would take minutes
        raise _damaged(path, N_("the entry of {name} is not readable"), name=name[:80])
    if not (isinstance(begin, int) and isinstance(end, int) and 0 <= begin <= end <= data_bytes) or (
        shape and min(shape) < 0
    ):
        raise _damaged(path, N_("the tensor {name} lies outside the file"), name=name[:80])
    bits = DTYPE_BITS.get(dtype)
    if bits is not None and math.prod(shape) * bits != 8 * (end - begin):
        raise _damaged(path, N_("shape and size of {name} do not agree"), name=name[:80])
    return TensorInfo(shape, dtype, end - begin)


def _refuse_overlaps_and_gaps(path: Path, header: dict[str, Any], data_bytes: int) -> None:
    """As safetensors itself, which opens no file with bytes that belong to no tensor."""
    spans = sorted(entry["data_offsets"] for name, entry in header.items() if name != "__metadata__")
    if any(later[0] < earlier[1] for earlier, later in itertools.pairwise(spans)):
        raise _damaged(path, N_("tensors overlap"))
    if sum(end - begin for begin, end in spans) != data_bytes:
        raise _damaged(path, N_("it has bytes that belong to no tensor"))


def _too_much(path: Path, most: str, **values: str) -> ModelError:
    return ModelError(
        N_(
            "The header of {path} has more than {most}, the limit for this kind of file. Check that it is the right file."
        ),
        path=str(path),
        most=Message(most, values),
    )


def _damaged(path: Path, reason: str, **values: str) -> ModelError:
    return ModelError(
        N_("The file {path} is damaged ({reason}). Copy or save it again."),
        path=str(path),
        reason=Message(reason, values),
    )


def read_folder_headers(folder: Path, stem: str) -> dict[str, TensorInfo]:
    """All tensors of the files that `weight_files` gives."""
    tensors: dict[str, TensorInfo] = {}
    for file in weight_files(folder, stem):
        tensors |= read_header(file)
        if len(tensors) > MAX_TENSORS:
            raise _too_much(folder, N_("{count} tensors"), count=f"{MAX_TENSORS:,}")
    return tensors


def weight_files(folder: Path, stem: str) -> list[Path]:
    """`<stem>.safetensors`, or the shards that `<stem>.safetensors.index.json` lists; none without either."""
    single = folder / f"{stem}.safetensors"
    if single.is_file():
        return [single]
    index = folder / f"{stem}.safetensors.index.json"
    if not index.is_file():
        return []
    try:
        shards = sorted(set(read_json(index)["weight_map"].values()))
    except FileRefusedError as error:
        raise ModelError(error.message.template, **error.message.values) from error
    except (ValueError, LookupError, AttributeError, TypeError, OSError) as error:
        raise _damaged(index, N_("it is not a list of shards")) from error
    if len(shards) > MAX_SHARDS:
        raise _damaged(index, N_("it names more than {count} files"), count=f"{MAX_SHARDS:,}")
    if not all(isinstance(shard, str) and Path(shard).name == shard for shard in shards):
        raise _damaged(index, N_("it names a file outside its folder"))
    return [folder / shard for shard in shards]
