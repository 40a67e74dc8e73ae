"""Which files a data set consists of, and what kind each of them is.

A data set is a file, a folder of files of one kind, what `datasets` wrote by `save_to_disk`, or such a folder in the
hub's cache. Where a folder holds several splits, the one asked for is taken, by itself `train`.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from lora_backend.bounded import read_json
from lora_backend.data.unpacking import ENDINGS, open_rows, open_unpacked, packing_of
from lora_backend.errors import DataError
from lora_backend.i18n import N_

FileKind = Literal["jsonl", "json", "csv", "tsv", "parquet", "arrow"]
FILE_KINDS: tuple[FileKind, ...] = get_args(FileKind)
KIND_OF_ENDING: dict[str, FileKind] = {
    ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json", ".csv": "csv", ".tsv": "tsv", ".parquet": "parquet",
    ".arrow": "arrow", ".feather": "arrow",
}  # fmt: skip
NO_ROWS = re.compile(
    r"dataset_infos?\.json|dataset_dict\.json|state\.json|(tokenizer_|generation_)?config\.json|package(-lock)?\.json"
)
"""JSON files that lie beside data and hold none."""
SPLITS = {"train": "train", "training": "train", "test": "test", "testing": "test", "eval": "test", "evaluation": "test",
    "validation": "validation", "valid": "validation", "val": "validation", "dev": "validation"}  # fmt: skip
"""Word in the name of a file or folder → split, as `datasets` reads it."""
SPLIT_WORD = re.compile(rf"(?<![a-z])({'|'.join(SPLITS)})(?![a-z])", re.IGNORECASE)
MOST_ENTRIES, DEEPEST = 10_000, 4
"""Of a folder; the root of a disk is no data set."""
HEAD_BYTES = 4096


@dataclass(frozen=True)
class SourceFile:
    """One file of a data set."""

    path: Path
    kind: FileKind
    name: str
    """As it is named to people: below the folder that was named."""


@dataclass(frozen=True)
class Source:
    """The files of a data set, in the order in which their rows count."""

    files: tuple[SourceFile, ...]
    split: str | None = None
    """Which of `splits` these are; None where there are none."""
    splits: tuple[str, ...] = ()


def find_source(path: Path, split: str | None = None, name: str | None = None) -> Source:
    """The files of the data set at `path`; one file may be called by another `name`.

    Raises `DataError` where there are none, or it is not clear which.
    """
    if not _is_folder(path):
        if split is not None and split != "train":
            raise DataError(N_("{path} is one file, which has no split {split}."), path=str(path), split=split)
        return Source((SourceFile(path, kind_of(path), name or path.name),))
    saved = _saved_to_disk(path, split)
    if saved is not None:
        return saved
    found = [SourceFile(file, kind, str(file.relative_to(path))) for file, kind in _files_below(path)]
    if not found:
        raise DataError(
            N_("The folder {path} contains no data files (JSONL, JSON, CSV, TSV, Parquet, Arrow). Check the path."),
            path=str(path),
        )
    by_split: dict[str | None, list[SourceFile]] = {}
    for file in found:
        by_split.setdefault(_split_of(file.name), []).append(file)
    splits = tuple(name for name in by_split if name is not None)
    chosen = _chosen_split(path, split, splits, has_others=None in by_split)
    return Source(tuple(_of_one_kind(path, by_split[chosen])), chosen, splits)


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # a name that is too long; whoever opens it says so
        return False


def kind_of(path: Path) -> FileKind:
    """The kind of a file, by its ending; a table or a list of another name by its first bytes. Raises `DataError`."""
    named = _kind_by_name(path.name)
    if named in ("jsonl", "csv", "tsv"):
        return named
    with open_unpacked(path) as file:
        head = file.read(HEAD_BYTES)
    if head.startswith(b"PAR1"):
        return "parquet"
    if head.startswith(b"ARROW1"):
        return "arrow"
    if named in ("parquet", "arrow"):
        return named
    return "json" if head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"[" else "jsonl"


def is_plain_text(path: Path) -> bool:
    """Whether a file is text as it is. Raises `DataError` where it cannot be read."""
    with open_rows(path) as file:
        head = file.peek(6)[:6]
    return packing_of(head) is None and not head.startswith((b"PAR1", b"ARROW1", b"\xff\xff\xff\xff"))


def _kind_by_name(name: str) -> FileKind | None:
    lowered = name.lower()
    for ending in ENDINGS:
        lowered = lowered.removesuffix(ending)
    return KIND_OF_ENDING.get(Path(lowered).suffix)


def _files_below(folder: Path) -> list[tuple[Path, FileKind]]:
    """Files with the name of a file of rows, in order of their names; none behind a linked folder."""
    below: list[Path] = []
    seen = 0
    for at, folders, names in os.walk(folder):
        depth = len(Path(at).relative_to(folder).parts)
        folders[:] = [] if depth >= DEEPEST else [name for name in folders if not name.startswith(".")]
        seen += len(folders) + len(names)
        if seen > MOST_ENTRIES:
            raise DataError(
                N_("The folder {path} contains more than {most} files and folders. Name the folder of one data set."),
                path=str(folder),
                most=f"{MOST_ENTRIES:,}",
            )
        below += [Path(at, name) for name in names if _is_named_as_rows(name)]
    return [(path, kind_of(path)) for path in sorted(below) if path.is_file()]


def _is_named_as_rows(name: str) -> bool:
    return _kind_by_name(name) is not None and not name.startswith(".") and NO_ROWS.fullmatch(name) is None


def _split_of(name: str) -> str | None:
    found = SPLIT_WORD.findall(name)
    return SPLITS[found[-1].lower()] if found else None


def _chosen_split(path: Path, split: str | None, splits: tuple[str, ...], *, has_others: bool) -> str | None:
    if split is None and not splits:
        return None
    wanted = split or "train"
    if wanted in splits:
        return wanted
    if not splits and wanted == "train" and has_others:
        return None
    if split is None and len(splits) == 1 and not has_others:
        return splits[0]
    raise DataError(
        N_("{path} has no split {split}, only {splits}. Name one of them, or one file."),
        path=str(path),
        split=wanted,
        splits=", ".join(splits) or "–",
    )


def _of_one_kind(path: Path, files: list[SourceFile]) -> list[SourceFile]:
    kinds = sorted({file.kind for file in files})
    folders = sorted({str(Path(file.name).parent) for file in files})
    if len(kinds) > 1:
        raise DataError(
            N_(
                "The folder {path} contains files of several kinds ({kinds}). Name one file, or a folder with one kind."
            ),
            path=str(path),
            kinds=", ".join(kinds),
        )
    if len(folders) > 1:
        raise DataError(
            N_("{path} has data in several folders ({folders}). Name one of them."),
            path=str(path),
            folders=", ".join(folders[:10]),
        )
    return files


def _saved_to_disk(path: Path, split: str | None) -> Source | None:
    """What `save_to_disk` wrote: a folder of Arrow files that `state.json` lists, or one of these for each split."""
    splits = _listed(path / "dataset_dict.json", "splits")
    if splits is not None:
        names = tuple(str(name) for name in splits)
        chosen = _chosen_split(path, split, names, has_others=False)
        below = find_source(path / str(chosen))
        files = (SourceFile(file.path, file.kind, f"{chosen}/{file.name}") for file in below.files)
        return Source(tuple(files), chosen, names)
    listed = _listed(path / "state.json", "_data_files")
    if listed is None:
        return None
    names = tuple(str(one.get("filename")) for one in listed if isinstance(one, dict))
    if any(Path(name).name != name for name in names):  # a path that leads elsewhere
        raise DataError(
            N_("{path} names files outside its folder. Save the data set again."), path=str(path / "state.json")
        )
    return Source(tuple(SourceFile(path / name, "arrow", name) for name in names))


def _listed(file: Path, key: str) -> list[Any] | None:
    try:
        found = read_json(file)
    except (OSError, ValueError):
        return None
    value = found.get(key) if isinstance(found, dict) else None
    return value if isinstance(value, list) else None
