"""Data sets of other tools: a single local file is taken, what comes from elsewhere is named and not carried over."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

from lora_backend.config.fix_offers import lines_of
from lora_backend.config.foreign.flat_source import Source
from lora_backend.config.foreign.key_mapping import Carried, Rule, is_off, lost, nothing, translated
from lora_backend.config.foreign.reasons import DATA
from lora_backend.config.foreign.row_types import read_as
from lora_backend.data.local_files import ending_of
from lora_backend.i18n import N_, Message

DATA_FILE = N_("The file becomes `{target}`. The form of its rows is detected.")
DATA_FILE_READ_AS = N_("The file becomes `{target}`, and its rows are read with {lines}.")
DATA_NOTE = N_("A single data file becomes `dataset`; names of data sets do not.")
NOT_CARRIED = N_("{first} Not carried over: {rest}.")
PART_OF_PATH = N_("Part of the path in `dataset`.")
BUILDERS = ("json", "jsonl", "csv", "parquet", "arrow")
"""What stands for a path where files on this machine follow."""


def data_file(path: Any, folder: str = "") -> Carried:
    """A path of a file of rows → `dataset`; a name, an address, a pattern, or several cannot be carried."""
    found = path[0] if isinstance(path, list) and len(path) == 1 else path
    if isinstance(found, Mapping) and len(found) == 1:  # of a split to its file
        (found,) = found.values()
    if is_off(found):
        return nothing(N_("Not set."))
    is_file = isinstance(found, str) and bool(ending_of(found)) and not set(",*?[") & set(found)
    if is_file and "://" not in found:
        return translated("dataset", str(PurePosixPath(folder, found)) if folder else found, DATA_FILE)
    return lost(DATA)


def dataset(folder_key: str | None = None) -> Rule:
    """The data set, where it is a file; `folder_key` says in which folder it lies."""

    def apply(source: Source, key: str) -> Carried:
        folder = source.get(folder_key) if folder_key else None
        if is_elsewhere(folder):
            return nothing(N_("Not set.")) if is_off(source.get(key)) else lost(DATA)
        return data_file(source.get(key), folder or "")

    return Rule(apply, ("dataset",), DATA_NOTE)


def is_elsewhere(folder: Any) -> bool:
    """Whether LLaMA-Factory's `dataset_dir` means the hub, or is a list of data sets itself."""
    return folder is not None and (not isinstance(folder, str) or folder == "ONLINE" or folder.startswith("REMOTE:"))


def folder_of(data_key: str) -> Rule:
    """The folder that the file of `data_key` lies in."""

    def apply(source: Source, key: str) -> Carried:
        folder = source.get(key)
        if is_off(folder, "data"):
            return nothing(N_("Off, or at its default: nothing to carry over."))
        is_used = not is_elsewhere(folder) and data_file(source.get(data_key)).target_key
        return nothing(PART_OF_PATH) if is_used else lost(DATA)

    return Rule(apply, (), DATA)


def first_of_datasets() -> Rule:
    """A list of data sets, each a mapping: the one and only, where it is a file. What else they say is named."""

    def apply(source: Source, key: str) -> Carried:
        value = source.get(key)
        entries = value.get("datasets") if isinstance(value, Mapping) and "datasets" in value else value
        if is_off(value) or not isinstance(entries, list):
            return nothing(N_("Not set.")) if is_off(value) else _with_rest(lost(DATA), value)
        (only,) = entries if len(entries) == 1 else (None,)
        if not isinstance(only, Mapping) or entries is not value:
            return _with_rest(lost(DATA), value)
        carried, taken = _file_of(only)
        also, read = read_as(only)
        if carried.target_key and also:
            message = Message(DATA_FILE_READ_AS, {"target": carried.target_key, "lines": lines_of(also)})
            carried, taken = replace(carried, message=message, also=also), (*taken, *read)
        if carried.target_key and only.get("split") == "train":
            taken = (*taken, "split")  # of a file that is all of it
        if carried.target_key and str(only.get("ds_type")) in BUILDERS:
            taken = (*taken, "ds_type")  # which its ending says
        rest = {name: item for name, item in only.items() if not (carried.target_key and name in taken)}
        return _with_rest(carried, rest)

    return Rule(apply, ("dataset", "data_format", "data_columns"), DATA_NOTE)


def other_data_sets(reason: str = DATA) -> Rule:
    """Data sets that have no place here, named with all that the file says of them."""

    def apply(source: Source, key: str) -> Carried:
        value = source.get(key)
        if is_off(value):
            return nothing(N_("Off, or at its default: nothing to carry over."))
        return _with_rest(lost(reason), value) if isinstance(value, list | Mapping) else lost(reason)

    return Rule(apply, (), reason)


def _file_of(entry: Mapping[str, Any]) -> tuple[Carried, tuple[str, ...]]:
    """The file of one entry, and the keys that say where it is. Files of a data set of the hub are not here."""
    path, files = entry.get("path"), entry.get("data_files")
    if not files:
        return data_file(path), ("path",)
    if path is None or path in BUILDERS:
        return data_file(files), ("path", "data_files")
    if isinstance(path, str) and path.startswith((".", "/", "~")):
        return data_file(files, path), ("path", "data_files")
    return lost(DATA), ()


def _with_rest(carried: Carried, rest: Any) -> Carried:
    """What else the entries say is not carried over, and named key by key."""
    said = {name: item for name, item in _named(rest).items() if item is not None}
    if not said:
        return carried
    return replace(carried, message=Message(NOT_CARRIED, {"first": carried.message, "rest": lines_of(said)}))


def _named(value: Any, prefix: str = "") -> dict[str, Any]:
    """The keys of a mapping, of each entry of a list as `[0].key`."""
    if isinstance(value, Mapping):
        found: dict[str, Any] = {}
        for key, item in value.items():
            name = f"{prefix}{key}"
            is_list = isinstance(item, list) and any(isinstance(entry, Mapping) for entry in item)
            found |= _named(item, name) if is_list else {name: item}
        return found
    if isinstance(value, list):
        found = {}
        for place, item in enumerate(value):
            found |= _named(item, f"{prefix}[{place}].") if isinstance(item, Mapping) else {f"{prefix}[{place}]": item}
        return found
    return {} if value is None else {prefix or "value": value}
