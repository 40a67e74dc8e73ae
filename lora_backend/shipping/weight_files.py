"""Read and write a model's safetensors files one tensor at a time, so that no more of them than that is in memory."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open

from lora_backend.bounded import read_json
from lora_backend.errors import ModelError, first_line
from lora_backend.i18n import N_
from lora_backend.models.headers import DTYPE_BITS, TensorInfo, read_header, weight_files

INDEX = "model.safetensors.index.json"
DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
"""Those of weights that are stored as they are, by safetensors' names."""
NAMES = {dtype: name for name, dtype in DTYPES.items()}
REOPEN_BYTES = 2**20
"""Pages that were read of a mapped file count as this process's memory until it is closed."""


@dataclass
class WeightFiles:
    """The weights of a model's folder; a link of the hub's cache is followed."""

    folder: Path
    _path: Path | None = field(default=None, repr=False)
    _handle: Any = field(default=None, repr=False)
    _read_bytes: int = field(default=0, repr=False)

    @cached_property
    def files(self) -> tuple[Path, ...]:
        """Of one file, or the shards. Raises `ModelError` where there are none, or one is missing."""
        found = tuple(weight_files(self.folder, "model"))
        if not found:
            raise ModelError(
                N_("{path} contains no safetensors weights. Name the folder that has them."), path=str(self.folder)
            )
        for path in found:
            if not path.is_file():
                raise ModelError(N_("The model's file {path} is missing. Download the model again."), path=str(path))
        return found

    @cached_property
    def headers(self) -> dict[Path, dict[str, TensorInfo]]:
        """File → name → what its header says."""
        return {path: read_header(path) for path in self.files}

    @cached_property
    def places(self) -> dict[str, Path]:
        """Name → the file that it is in."""
        return {name: path for path, header in self.headers.items() for name in header}

    @cached_property
    def total_bytes(self) -> int:
        """Of all tensors."""
        return sum(info.size_bytes for header in self.headers.values() for info in header.values())

    def info(self, name: str) -> TensorInfo:
        return self.headers[self.places[name]][name]

    def metadata(self, path: Path) -> dict[str, str]:
        """What stands in a file's header beside its tensors."""
        with _saying(path), safe_open(path, "pt") as file:
            return dict(file.metadata() or {})

    def tensor(self, name: str) -> torch.Tensor:
        """One tensor, mapped from its file. Raises `ModelError` for a file that is damaged."""
        path = self.places[name]
        with _saying(path):
            if path != self._path or self._read_bytes > REOPEN_BYTES:
                self.close()
                self._path, self._handle = path, safe_open(path, "pt")
            self._read_bytes += self.info(name).size_bytes
            return self._handle.get_tensor(name)

    def close(self) -> None:
        """Let go of what is mapped."""
        self._path, self._handle, self._read_bytes = None, None, 0


@contextmanager
def _saying(path: Path) -> Iterator[None]:
    try:
        yield
    except (SafetensorError, OSError) as error:
        raise ModelError(
            N_("The file {path} is damaged ({reason}). Copy or save it again."),
            path=str(path),
            reason=first_line(error),
        ) from error


class Stored(NamedTuple):
    """A tensor that is going to be written."""

    name: str
    dtype: str
    """safetensors' word."""
    shape: tuple[int, ...]

    @property
    def size_bytes(self) -> int:
        return math.prod(self.shape) * DTYPE_BITS[self.dtype] // 8


def write_tensors(
    path: Path, stored: Sequence[Stored], tensors: Iterator[torch.Tensor], metadata: Mapping[str, str]
) -> None:
    """Write a safetensors file; each of `tensors` is asked for when the one before it is on the disk.

    Format: 8 bytes little-endian header length, a JSON object padded by spaces to 8 bytes, then the tensors
    (https://huggingface.co/docs/safetensors).
    """
    header: dict[str, Any] = {"__metadata__": {"format": "pt", **metadata}}
    end = 0
    for item in stored:
        begin, end = end, end + item.size_bytes
        header[item.name] = {"dtype": item.dtype, "shape": list(item.shape), "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode("utf-8")
    text += b" " * (-len(text) % 8)
    with path.open("xb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for item in stored:
            file.write(_bytes_of(next(tensors), item))


def _bytes_of(tensor: torch.Tensor, item: Stored) -> memoryview | bytes:
    if tuple(tensor.shape) != item.shape or tensor.numel() * tensor.itemsize != item.size_bytes:
        raise ValueError(f"{item.name} is {tuple(tensor.shape)} of {tensor.dtype}, not {item.shape} of {item.dtype}")
    if not tensor.numel():
        return b""
    return memoryview(tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy())


def write_index(source: Path, output: Path, places: Mapping[str, str], total_bytes: int) -> None:
    """The list of shards beside them: name → file. What else `source`'s list says of the model as a whole is kept."""
    kept = read_json(source / INDEX).get("metadata") if (source / INDEX).is_file() else None
    metadata = {**(kept if isinstance(kept, dict) else {}), "total_size": total_bytes}
    text = json.dumps({"metadata": metadata, "weight_map": dict(sorted(places.items()))}, indent=2) + "\n"
    (output / INDEX).write_text(text, "utf-8")
