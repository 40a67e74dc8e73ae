"""Names, shapes and types of the tensors in safetensors files, from their headers alone."""

from __future__ import annotations

import itertools
import json
import math
import os
from pathlib import Path
from typing import Any, NamedTuple

from lora_backend.bounded import open_regular, read_json
from lora_backend.errors import FileRefusedError, ModelError
from lora_backend.i18n import N_, Message

MAX_HEADER_BYTES = 100_000_000
"""The limit of the safetensors format itself."""
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
    try:
        with open_regular(path) as file:
            total_bytes = os.fstat(file.fileno()).st_size
            length = int.from_bytes(file.read(8), "little")
            if total_bytes < 8 or length > min(total_bytes - 8, MAX_HEADER_BYTES):
                raise _damaged(path, N_("its header is longer than the file"))
            header = json.loads(file.read(length))
    except FileRefusedError as error:
        raise ModelError(error.message.template, **error.message.values) from error
    except OSError as error:
        raise _damaged(path, "{error}", error=error.strerror or str(error)) from error
    except (ValueError, RecursionError) as error:
        if isinstance(error, ModelError):
            raise
        raise _damaged(path, N_("its header is not JSON")) from error
    if not isinstance(header, dict):
        raise _damaged(path, N_("its header is not a JSON object"))
    data_bytes = total_bytes - 8 - length
    tensors = {name: _tensor(path, name, entry, data_bytes) for name, entry in header.items() if name != "__metadata__"}
    _refuse_overlaps(path, header)
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
    if not isinstance(entry["shape"], list) or not set(map(type, shape)) <= {int}:
        raise _damaged(path, N_("the entry of {name} is not readable"), name=name[:80])
    if not (isinstance(begin, int) and isinstance(end, int) and 0 <= begin <= end <= data_bytes) or (
        shape and min(shape) < 0
    ):
        raise _damaged(path, N_("the tensor {name} lies outside the file"), name=name[:80])
    bits = DTYPE_BITS.get(dtype)
    if bits is not None and math.prod(shape) * bits != 8 * (end - begin):
        raise _damaged(path, N_("shape and size of {name} do not agree"), name=name[:80])
    return TensorInfo(shape, dtype, end - begin)


def _refuse_overlaps(path: Path, header: dict[str, Any]) -> None:
    spans = sorted(entry["data_offsets"] for name, entry in header.items() if name != "__metadata__")
    if any(later[0] < earlier[1] for earlier, later in itertools.pairwise(spans)):
        raise _damaged(path, N_("tensors overlap"))


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
    if not all(isinstance(shard, str) and Path(shard).name == shard for shard in shards):
        raise _damaged(index, N_("it names a file outside its folder"))
    return [folder / shard for shard in shards]
