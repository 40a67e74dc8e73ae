"""An adapter copied to be taken along: its own files alone, with passport, config and card; as a folder or an archive."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from lora_backend.atomic import write_atomic, write_json
from lora_backend.bounded import open_regular
from lora_backend.config.secrets import redact
from lora_backend.i18n import N_, Message
from lora_backend.models.describe import read_json_object
from lora_backend.models.find import ADAPTER_CONFIG
from lora_backend.preflight.adapter_files import WRITTEN_ANEW, adapter_files
from lora_backend.preflight.export_place import ZIP_MARK, ExportError
from lora_backend.runs.record.job_documents import ExportDtype
from lora_backend.shipping.card_facts import CardFacts
from lora_backend.verification.passport import FILE as PASSPORT
from lora_backend.verification.passport import file_sha256, tensors_sha256

CONFIG = "config.yaml"
DTYPES: dict[ExportDtype, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
CHUNK_BYTES = 4 * 2**20
MOST_NAMED = 6
OnBytes = Callable[[int], None]
"""Called with the number of bytes that were copied since it was called last; may raise, to stop."""


@dataclass
class CopiedAdapter:
    """What was made of the adapter's files."""

    notes: list[Message] = field(default_factory=list)
    is_same_weights: bool = True
    """Whether each file of weights is the adapter's own, byte for byte."""


def copy_adapter(
    adapter: Path, output: Path, facts: CardFacts, dtype: ExportDtype | None, on_bytes: OnBytes
) -> CopiedAdapter:
    """Fill the new folder `output` with the adapter in `adapter`, so that `PeftModel.from_pretrained` loads it.

    Only files that are known are copied: an optimizer's state, or what else lies there, stays behind and is named. The
    weights keep their bytes, unless `dtype` asks for another type. Raises `OSError`, and `ExportError` where a value
    does not fit into `dtype`.
    """
    copied = CopiedAdapter()
    output.mkdir(exist_ok=True)
    files = adapter_files(adapter)
    for path in files.kept:
        if path.name in WRITTEN_ANEW:
            continue
        if path.suffix == ".safetensors" and _is_cast(path, output / path.name, dtype):
            copied.is_same_weights = False
            on_bytes(path.stat().st_size)
        else:
            copy_file(path, output / path.name, on_bytes)
    _write_adapter_config(adapter, output, facts, copied.notes)
    if facts.config_text is not None:
        write_atomic(output / CONFIG, redact(facts.config_text))
    _write_passport(adapter, output)
    if files.beside:
        names = ", ".join(files.beside[:MOST_NAMED]) + (" …" if len(files.beside) > MOST_NAMED else "")
        copied.notes.append(
            Message(N_("Left out, because they are not part of the adapter: {names}."), {"names": names})
        )
    return copied


def copy_file(source: Path, target: Path, on_bytes: OnBytes) -> None:
    """Copy a regular file's bytes. Raises `OSError`, and what `on_bytes` raises."""
    with open_regular(source) as read, target.open("xb") as written:
        while chunk := read.read(CHUNK_BYTES):
            written.write(chunk)
            on_bytes(len(chunk))


def pack(folder: Path, archive: Path, on_bytes: OnBytes) -> None:
    """Put the files of `folder` into the new zip `archive`, and read each of them back. Raises `ExportError` where one
    does not come out as it went in."""
    files = sorted(path for path in folder.iterdir() if path.is_file())
    with zipfile.ZipFile(archive, "x", zipfile.ZIP_STORED) as packed:  # weights do not shrink
        packed.comment = ZIP_MARK
        for path in files:
            entry = zipfile.ZipInfo(path.name, date_time=(1980, 1, 1, 0, 0, 0))  # the same bytes for the same files
            entry.external_attr = 0o644 << 16
            with path.open("rb") as read, packed.open(entry, "w", force_zip64=True) as written:
                while chunk := read.read(CHUNK_BYTES):
                    written.write(chunk)
                    on_bytes(len(chunk))
    with zipfile.ZipFile(archive) as packed:
        for path in files:
            digest = hashlib.sha256()
            with packed.open(path.name) as read:
                while chunk := read.read(CHUNK_BYTES):
                    digest.update(chunk)
            if digest.hexdigest() != file_sha256(path):
                raise ExportError(N_("{file} differs after reading it back from the archive. Check the disk, then try again."), file=path.name)  # fmt: skip


def _is_cast(source: Path, target: Path, dtype: ExportDtype | None) -> bool:
    """Write the weights in another type; False where all of them have it already, and nothing was written."""
    if dtype is None:
        return False
    wanted, tensors = DTYPES[dtype], load_file(source)
    if all(tensor.dtype == wanted for tensor in tensors.values() if tensor.is_floating_point()):
        return False
    cast = {name: tensor.to(wanted) if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}
    for name, tensor in cast.items():
        if tensor.is_floating_point() and tensors[name].isfinite().all() and not tensor.isfinite().all():
            raise ExportError(N_("{name} has values that {dtype} cannot hold. Choose `--dtype bf16`, or leave it out."), name=name, dtype=dtype)  # fmt: skip
    save_file(cast, target, {"format": "pt"})
    return True


def _write_adapter_config(adapter: Path, output: Path, facts: CardFacts, notes: list[Message]) -> None:
    """PEFT's config, its base model by the hub's id where that is known: a path of this machine says nothing elsewhere."""
    config = read_json_object(adapter / ADAPTER_CONFIG)
    named = config.get("base_model_name_or_path")
    if facts.base_id is not None:
        config["base_model_name_or_path"] = facts.base_id
    elif isinstance(named, str) and Path(named).is_absolute():
        notes.append(Message(N_("The adapter names its base model by a folder on this machine: {path}. On another machine, pass the path of the base model when you load it."), {"path": named}))  # fmt: skip
    _dump(output / ADAPTER_CONFIG, config)


def _write_passport(adapter: Path, output: Path) -> None:
    """The adapter's own, its hashes those of the files here; what they were before stands beside."""
    path = adapter / PASSPORT
    if not path.is_file():
        return
    passport = read_json_object(path)
    now: dict[str, Any] = {
        "tensors_sha256": tensors_sha256(output),
        "adapter_config_sha256": file_sha256(output / ADAPTER_CONFIG),
    }
    before = {key: passport.get(key) for key, value in now.items() if passport.get(key) != value}
    write_json(output / PASSPORT, {**passport, **now, **({"exported_from": before} if before else {})})


def _dump(path: Path, value: dict[str, Any]) -> None:
    write_atomic(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")
