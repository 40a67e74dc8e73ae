"""What an export takes on the disk, told before the first byte is written."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lora_backend.errors import DiskFullError, ModelError
from lora_backend.formats import size
from lora_backend.i18n import N_
from lora_backend.models.find import find_model
from lora_backend.models.headers import DTYPE_BITS, TensorInfo, read_folder_headers
from lora_backend.preflight.adapter_files import adapter_files
from lora_backend.runs.record.job_documents import ExportRequest
from lora_backend.verification.adapter_folder import read_adapter_config, read_adapter_headers

BITS = {"fp32": 32, "bf16": 16, "fp16": 16}
SMALL_FILES_BYTES = 4 * 2**20
"""Card, curve, config, passport and headers; a tokenizer, where the adapter has one, is counted with the adapter."""
SPARE_BYTES = 64 * 2**20
"""That a disk keeps beside: an export shall not be what fills it."""
DiskFree = Callable[[Path], int]


@dataclass(frozen=True)
class ExportRoom:
    """What an export needs and what its disk has; bytes."""

    needed_bytes: int
    """At its peak: what is written beside the place, and what is taken there."""
    free_bytes: int
    folder: Path
    """Where that is free."""

    @property
    def fits(self) -> bool:
        return self.needed_bytes + SPARE_BYTES <= self.free_bytes

    def refuse_too_little(self) -> None:
        """Raise `DiskFullError` with the figures where it does not fit."""
        if not self.fits:
            raise DiskFullError(
                N_("This export needs {needed}, but {folder} has only {free} free. Free some space, or choose another place."),
                needed=size(self.needed_bytes + SPARE_BYTES), folder=str(self.folder), free=size(self.free_bytes),
            )  # fmt: skip


def export_room(request: ExportRequest, place: Path, is_file: bool, disk_free: DiskFree | None = None) -> ExportRoom:
    """What `request` needs at `place`. Raises `ModelError` where adapter or base model cannot be read."""
    folder = next(part for part in place.parents if os.path.isdir(part))  # noqa: PTH112 - of a path that may be odd
    free = (disk_free or (lambda where: shutil.disk_usage(where).free))(folder)
    return ExportRoom(export_bytes(request, is_file=is_file), free, folder)


def export_bytes(request: ExportRequest, *, is_file: bool) -> int:
    """The same without the disk: bytes at the peak."""
    adapter = Path(request.adapter)
    makes = request.what if request.to == "hub" else request.to
    if makes == "card":
        return SMALL_FILES_BYTES
    tensors = read_adapter_headers(adapter)
    own = sum(path.stat().st_size for path in adapter_files(adapter).kept if path.suffix != ".safetensors")
    truncated = _bytes_of(tensors, None) if truncates(request) else 0
    if makes == "merged":
        return truncated + _bytes_of(_base_tensors(request, adapter), request.dtype) + SMALL_FILES_BYTES
    copies = 2 if makes == "adapter" and is_file else 1  # the folder that is proved, and the archive of it
    return truncated + copies * (_bytes_of(tensors, request.dtype) + own) + SMALL_FILES_BYTES


def truncates(request: ExportRequest) -> bool:
    """Whether the adapter is truncated on the way."""
    return not (request.rank is None and request.energy is None and request.max_bytes is None)


def base_named_by(request: ExportRequest, adapter: Path) -> str | None:
    """The base model's name: what the request says, else what the adapter does."""
    return request.base_model or (read_adapter_config(adapter) or {}).get("base_model_name_or_path") or None


def _base_tensors(request: ExportRequest, adapter: Path) -> dict[str, TensorInfo]:
    name = base_named_by(request, adapter)
    if not name:
        raise ModelError(N_("The adapter in {path} does not name its base model. Name it with `--model`."), path=str(adapter))  # fmt: skip
    base = find_model(name)
    return read_folder_headers(base if base.is_dir() else base.parent, "model")


def _bytes_of(tensors: dict[str, TensorInfo], dtype: str | None) -> int:
    """Of all tensors, those of floating point in `dtype`; None: as they are."""
    if dtype is None:
        return sum(tensor.size_bytes for tensor in tensors.values())
    is_float = {name for name in DTYPE_BITS if name[0] in "BF" and name != "BOOL"}
    bits = (BITS[dtype] if tensor.dtype in is_float else DTYPE_BITS.get(tensor.dtype, 8) for tensor in tensors.values())
    return sum(math.prod(tensor.shape) * width // 8 for tensor, width in zip(tensors.values(), bits, strict=True))
