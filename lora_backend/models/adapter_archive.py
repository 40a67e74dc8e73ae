"""Take the one adapter out of a zip that may have come from anybody: nothing else in it is unpacked."""

from __future__ import annotations

import os
import re
import stat
import zipfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import IO

from lora_backend import outside
from lora_backend.bounded import KINDS
from lora_backend.errors import FlightdeckError, ModelError, first_line
from lora_backend.formats import size
from lora_backend.i18n import N_, Message
from lora_backend.models.find import ADAPTER_CONFIG
from lora_backend.os_errors import in_words
from lora_backend.outside import OutsideError

KEPT = re.compile(
    r"adapter_config\.json|adapter_model(-\d{1,9}-of-\d{1,9})?\.safetensors|adapter_model\.safetensors\.index\.json"
    r"|flightdeck\.json|README\.md|chat_template\.jinja|merges\.txt|(tokenizer|spiece)\.model|vocab\.txt"
    r"|(tokenizer|tokenizer_config|special_tokens_map|added_tokens|vocab|chat_template)\.json"
)
"""Files of an adapter's folder that are of use here; none of them is run to be read."""
PICKLED = "adapter_model.bin"
MOST_ENTRIES = 2_000
"""Files in a zip; a folder of a training with all of its checkpoints has some hundred."""
MOST_UNPACKED_BYTES = 2 * 2**30
MOST_RATIO, SMALL_BYTES = 100, 16 * 2**20
"""Trained weights hardly pack. What unpacks to more than the second, and to so many times its size, was made to fill a disk."""
BLOCK_BYTES = 2**20
DEADLINE_S = 300.0
MOST_NAMED = 3
ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".zst", ".xz", ".bz2", ".7z", ".rar")


def unpack_adapter(archive: Path, name: str, target: Path) -> list[str]:
    """Put the adapter's files of a zip into the folder `target`; returns what was left out. `name`: what the sentences call it.

    Raises `ModelError` in one sentence for what is no zip, or none with exactly one adapter in it, or was made to do harm.
    """
    try:
        left_out: list[str] = outside.call(
            f"{__name__}:unpack_here", str(archive), name, str(target), deadline_s=DEADLINE_S
        )
    except OutsideError as error:
        raise ModelError(
            N_("{file} could not be unpacked: {reason} Unpack it yourself and upload the adapter's files."),
            file=name,
            reason=error.message,
        ) from error
    return left_out


def unpack_here(archive: str, name: str, target: str) -> list[str]:
    """What a process of its own does, with a limit of memory: even the list of what is in a zip may be huge."""
    try:
        with zipfile.ZipFile(archive) as packed:
            members = _adapter_in(packed.infolist(), name)
            _refuse_bomb(members, name)
            for member in members:
                with packed.open(member) as source:
                    copy_file(source, Path(target, PurePosixPath(member.filename).name), member.file_size)
            kept = {member.filename for member in members}
            others = (info.filename for info in packed.infolist() if not info.is_dir())
            return [other for other in others if other not in kept and not _is_litter(other)]
    except (FlightdeckError, MemoryError):
        raise
    except OSError as error:
        raise in_words(error, Path(target)) from error
    except Exception as error:  # what `zipfile` and its unpackers raise for bad bytes is of many kinds
        raise ModelError(
            N_("{file} is damaged or not a zip file ({reason}). Pack or copy it again."),
            file=name,
            reason=first_line(error),
        ) from error


def chosen_files(names: Sequence[str], source: str | Message) -> list[str]:
    """Those of an adapter's files that are kept. Raises `ModelError` where they make no adapter. `source`: who has them."""
    if ADAPTER_CONFIG not in names:
        raise ModelError(
            N_("{file} has no adapter_config.json. Upload it together with the weights, as saved by PEFT."),
            file=source,
        )
    kept = [name for name in names if KEPT.fullmatch(name)]
    if not any(name.endswith(".safetensors") for name in kept):
        if PICKLED in names:
            raise ModelError(
                N_(
                    "{file} has its weights as adapter_model.bin, which may run code when it is opened. Save them again as safetensors."
                ),
                file=source,
            )
        raise ModelError(
            N_(
                "{file} has no weights: adapter_model.safetensors is missing. Upload it together with adapter_config.json."
            ),
            file=source,
        )
    return kept


def copy_file(source: IO[bytes], target: Path, most_bytes: int) -> None:
    """Write a new file and flush it to the disk. Raises `ModelError` where there is more of it than was said."""
    left = most_bytes
    with target.open("xb") as file:
        while block := source.read(BLOCK_BYTES):
            left -= len(block)
            if left < 0:
                raise ModelError(N_("{file} is larger than its zip says. Pack it again."), file=target.name)
            file.write(block)
        file.flush()
        os.fsync(file.fileno())


def _adapter_in(infos: Sequence[zipfile.ZipInfo], name: str) -> list[zipfile.ZipInfo]:
    """The files of its one adapter, once nothing in the zip is of a kind that no honest one has."""
    if len(infos) > MOST_ENTRIES:
        raise ModelError(
            N_("{file} contains {count} files; the limit is {limit}. Pack only the adapter's folder."),
            file=name,
            count=f"{len(infos):,}",
            limit=f"{MOST_ENTRIES:,}",
        )
    for info in infos:
        _refuse_entry(info, name)
    files = [info for info in infos if not info.is_dir() and not _is_litter(info.filename)]
    folders = [str(path.parent) for path in map(_path, files) if path.name == ADAPTER_CONFIG]
    if not folders:
        raise _no_adapter(files, name)
    if len(folders) > 1:
        shown = ", ".join(sorted(folders)[:MOST_NAMED]) + (" …" if len(folders) > MOST_NAMED else "")
        raise ModelError(
            N_("{file} contains {count} adapters ({folders}). Pack only one of them."),
            file=name,
            count=str(len(folders)),
            folders=shown,
        )
    inside = [info for info in files if str(_path(info).parent) == folders[0]]
    names = [_path(info).name for info in inside]
    kept = set(chosen_files(names, name))
    if twice := next((one for one in kept if names.count(one) > 1), None):
        raise ModelError(N_("{file} contains {name} twice. Pack it again."), file=name, name=twice)
    return [info for info in inside if _path(info).name in kept]


def _refuse_entry(info: zipfile.ZipInfo, name: str) -> None:
    path = info.filename.replace("\\", "/")
    if path.startswith("/") or re.match(r"[A-Za-z]:", path) or ".." in path.split("/"):
        raise ModelError(
            N_("{file} contains {name}, which would be outside its folder. Pack the adapter's folder again."),
            file=name,
            name=info.filename[:200],
        )
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        what = KINDS.get(kind, N_("a symbolic link"))
        raise ModelError(
            N_("{name} in {file} is {kind}, not a file. Pack the files themselves."),
            file=name,
            name=info.filename[:200],
            kind=Message(what),
        )
    if info.flag_bits & 0x1:
        raise ModelError(N_("{file} is encrypted. Pack it without a password."), file=name)


def _refuse_bomb(members: Sequence[zipfile.ZipInfo], name: str) -> None:
    unpacked = sum(member.file_size for member in members)
    packed = sum(member.compress_size for member in members)
    if unpacked > MOST_UNPACKED_BYTES or (unpacked > SMALL_BYTES and unpacked > MOST_RATIO * packed):
        raise ModelError(
            N_(
                "{file} has {packed} and would unpack to {unpacked}. Unpack it yourself and upload the adapter's files."
            ),
            file=name,
            packed=size(packed),
            unpacked=size(unpacked),
        )


def _no_adapter(files: Sequence[zipfile.ZipInfo], name: str) -> ModelError:
    inner = next((info.filename for info in files if info.filename.lower().endswith(ARCHIVES)), None)
    if inner is not None:
        return ModelError(
            N_(
                "{file} contains another archive, {name}, which is not unpacked. Upload the archive with the adapter itself."
            ),
            file=name,
            name=inner[:200],
        )
    return ModelError(
        N_("{file} contains no adapter: there is no adapter_config.json in it. Pack the folder that PEFT saved."),
        file=name,
    )


def _path(info: zipfile.ZipInfo) -> PurePosixPath:
    return PurePosixPath(info.filename)


def _is_litter(name: str) -> bool:
    """What a Mac puts beside the files of a zip."""
    path = PurePosixPath(name)
    return path.parts[:1] == ("__MACOSX",) or path.name == ".DS_Store" or path.name.startswith("._")
