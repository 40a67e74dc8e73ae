"""Take an adapter that comes through the browser, as a zip or as its files: kept in a folder of its own, whole, or not at all."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from lora_backend.bounded import open_regular
from lora_backend.errors import ModelError
from lora_backend.formats import size
from lora_backend.i18n import N_, Message
from lora_backend.installation import Installation
from lora_backend.models.adapter_archive import chosen_files, copy_file, unpack_adapter
from lora_backend.models.adapters_here import short_name
from lora_backend.models.describe import read_json_object
from lora_backend.models.find import ADAPTER_CONFIG
from lora_backend.models.headers import read_header
from lora_backend.symlinks import refuse_link

MAX_UPLOAD_BYTES = 512 * 2**20
"""Of all files of an upload, as the browser sends them; a larger adapter is put into the folder by hand."""
STAGED = ".incoming-"
"""Begins the names of folders that are not checked yet; lists pass over them."""
STALE_AFTER_S = 3600.0
ZIP_MAGIC = (b"PK\x03\x04", b"PK\x05\x06")
DIGITS = 8
"""Of the content's hash, behind the name."""


@dataclass(frozen=True)
class StoredAdapter:
    """What became of an upload."""

    folder: Path
    left_out: tuple[str, ...]
    """Names of the files that are no part of an adapter and were not kept."""


def store_adapter(files: Sequence[tuple[str, BinaryIO]], installation: Installation) -> StoredAdapter:
    """Keep an adapter below `uploaded_adapters`: one zip, or its files, each with its name. The same twice is one folder.

    Raises `ModelError` in one sentence for what is no adapter, is damaged, too large, or was made to do harm; then, and
    after an `OSError`, nothing of it is left.
    """
    _refuse_size(files, installation)
    root = installation.uploaded_adapters
    is_new = not os.path.lexists(root)
    refuse_link(root)
    root.mkdir(parents=True, exist_ok=True)
    _sweep(root, installation.clock())
    staged = root / f"{STAGED}{secrets.token_hex(8)}"
    staged.mkdir()
    try:
        left_out = _fill(staged, files)
        _refuse_unreadable(staged)
        return StoredAdapter(_keep(staged, _stem(staged, files)), tuple(left_out))
    finally:
        shutil.rmtree(staged, ignore_errors=True)
        if is_new:
            with suppress(OSError):
                root.rmdir()


def delete_uploaded(folder: Path, installation: Installation) -> None:
    """Delete an uploaded adapter for good. Raises `ModelError` for any other folder, `LinkRefusedError` for a link."""
    root = installation.uploaded_adapters
    if folder.parent != root or not folder.is_dir():
        raise ModelError(N_("{path} is not an uploaded adapter."), path=str(folder))
    for path in (root, folder):
        refuse_link(path)
    gone = root / f"{STAGED}{secrets.token_hex(8)}"  # so that nobody finds half of it
    folder.rename(gone)
    shutil.rmtree(gone)


def _refuse_size(files: Sequence[tuple[str, BinaryIO]], installation: Installation) -> None:
    total = 0
    for _, file in files:
        total += file.seek(0, os.SEEK_END)
        file.seek(0)
    if total > MAX_UPLOAD_BYTES:
        raise ModelError(
            N_("The adapter is {size}; the upload limit is {limit}. Put its folder into {root} and choose it there."),
            size=size(total),
            limit=size(MAX_UPLOAD_BYTES),
            root=str(installation.uploaded_adapters),
        )


def _fill(staged: Path, files: Sequence[tuple[str, BinaryIO]]) -> list[str]:
    """Put the adapter's files into `staged`; returns what was left out."""
    zips = [name for name, file in files if _is_zip(name, file)]
    if zips and len(files) > 1:
        raise ModelError(
            N_("{file} was uploaded together with other files. Upload one zip, or the adapter's files."), file=zips[0]
        )
    if zips:
        (name, file), packed = files[0], staged / "upload.zip"
        copy_file(file, packed, MAX_UPLOAD_BYTES)
        try:
            return unpack_adapter(packed, name, staged)
        finally:
            packed.unlink()
    names = [name for name, _ in files]
    for name in names:
        if Path(name).name != name or names.count(name) > 1:
            raise ModelError(N_("Two files are called {name}. Upload the files of one adapter."), name=Path(name).name)
    kept = chosen_files(names, names[0] if len(names) == 1 else Message(N_("The upload")))
    for name, file in files:
        if name in kept:
            copy_file(file, staged / name, MAX_UPLOAD_BYTES)
    return [name for name in names if name not in kept]


def _is_zip(name: str, file: BinaryIO) -> bool:
    head = file.read(len(ZIP_MAGIC[0]))
    file.seek(0)
    return head in ZIP_MAGIC or name.lower().endswith(".zip")


def _refuse_unreadable(staged: Path) -> None:
    """Raise `ModelError` where config or weights are damaged, by the name that the file was uploaded with."""
    try:
        config = read_json_object(staged / ADAPTER_CONFIG)
        for weights in sorted(staged.glob("*.safetensors")):
            read_header(weights)
    except ModelError as error:
        values = error.message.values
        named = {"path": Path(values["path"]).name} if "path" in values else {}
        raise ModelError(error.message.template, **{**values, **named}) from error
    if not isinstance(config.get("peft_type"), str):
        raise ModelError(
            N_("{path} has no `peft_type`, so it is not a PEFT adapter. Save the adapter with PEFT."),
            path=ADAPTER_CONFIG,
        )


def _stem(staged: Path, files: Sequence[tuple[str, BinaryIO]]) -> str:
    """Of the folder's name: the zip's, else the base model's."""
    if len(files) == 1:
        said = Path(files[0][0]).stem
    else:
        base = read_json_object(staged / ADAPTER_CONFIG).get("base_model_name_or_path")
        said = short_name(base) if isinstance(base, str) else ""
    stem = re.sub(r"[^\w.-]+", "_", said).encode("utf-8", "ignore")[:60].decode("utf-8", "ignore")
    return stem.strip("._-") or "adapter"


def _keep(staged: Path, stem: str) -> Path:
    """Move it to its place: under eight digits of its content's hash, under all of them where another has that name."""
    sha256 = _content_sha256(staged)
    assert sha256, "it was just written"
    target = staged.with_name(f"{stem}-{sha256[:DIGITS]}")
    if os.path.lexists(target) and _content_sha256(target) != sha256:
        target = staged.with_name(f"{stem}-{sha256}")
    try:
        staged.rename(target)
    except OSError:
        if not target.is_dir():
            raise
        # It was there before, or another session has uploaded the same at this moment.
    return target


def _content_sha256(folder: Path) -> str | None:
    """Over names and bytes of its files; None for what is no folder of plain files."""
    digest = hashlib.sha256()
    try:
        for path in sorted(folder.iterdir()):
            with open_regular(path, follow=False) as file:
                digest.update(f"{path.name}\0{hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    except OSError:
        return None
    return digest.hexdigest()


def _sweep(root: Path, now: float) -> None:
    """Remove what an upload left that was ended on its way."""
    for path in root.glob(f"{STAGED}*"):
        with suppress(OSError):
            if now - path.lstat().st_mtime > STALE_AFTER_S:
                shutil.rmtree(path)
