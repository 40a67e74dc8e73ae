"""The adapters that are on this machine: of runs and their checkpoints, uploaded, published, cached, and others below the roots."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lora_backend.bounded import read_json
from lora_backend.i18n import N_, Message
from lora_backend.installation import Installation, is_within
from lora_backend.models.find import ADAPTER_CONFIG
from lora_backend.models.local import HUB_PREFIX, folders_below, hub_id_of, snapshots_of
from lora_backend.symlinks import is_unlinked_file

Origin = Literal["run", "checkpoint", "exported", "uploaded", "published", "hub", "found"]
CHECKPOINT = re.compile(r"checkpoint-(\d{1,18})")
PASSPORT, MANIFEST = "flightdeck.json", "manifest.json"
"""What a published adapter has, and what a checkpoint has that is whole."""
MAX_CONFIG_BYTES = 2**20
"""Of a file that is only read for a name; a list asks hundreds."""
LABELS: dict[Origin, str] = {
    "run": "{title} · {run}",
    "checkpoint": N_("{title} · {run} · step {step}"),
    "exported": N_("{title} · {run} · exported"),
    "uploaded": N_("{title} · uploaded"),
    "published": N_("{title} · published"),
    "hub": N_("{title} · hub cache"),
    "found": "{title}",
}


@dataclass(frozen=True)
class AdapterHere:
    """One adapter, as a list shows it; none of its weights were read."""

    folder: Path
    """Holds its adapter_config.json; absolute."""
    origin: Origin
    """Where it comes from."""
    title: str
    """Of a run its name, of a repository its id, of others the folder as counted from the root in which it lies."""
    base_model: str | None
    """As its run or its own config names the model: a folder or a hub id; None where neither does."""
    run: str | None = None
    """Id of the run that made it."""
    step: int | None = None
    """Of a checkpoint."""

    @property
    def address(self) -> str:
        """The word that names it in the address of a page: `run:<id>`, `run:<id>/<step>`, or its folder."""
        if self.origin == "run":
            return f"run:{self.run}"
        return f"run:{self.run}/{self.step}" if self.origin == "checkpoint" else str(self.folder)

    @property
    def label(self) -> Message:
        """What to call it, for people."""
        return Message(LABELS[self.origin], {"title": self.title, "run": self.run, "step": self.step})

    @property
    def base_name(self) -> str | None:
        """Its base model without the folders or the owner before the name."""
        return None if self.base_model is None else short_name(self.base_model)

    def may_belong_to(self, base_model: str) -> bool:
        """Whether its base model may be that one, by the names alone; by which files it is, only a look into both tells."""
        return self.base_name is None or self.base_name.casefold() == short_name(base_model).casefold()


def short_name(model: str) -> str:
    """The last part of a hub id or a folder, of a snapshot in the hub's cache its repository's: `SmolLM2-135M`."""
    parts = [part for part in re.split(r"[/\\]", model) if part]
    cached = next((part for part in parts if part.startswith(HUB_PREFIX)), None)
    return cached.rpartition("--")[2] if cached else parts[-1] if parts else model


def adapters_here(installation: Installation) -> list[AdapterHere]:
    """All that the browser may name: those of runs, the newest run first, with their checkpoints, the newest first; then
    uploaded ones, published ones, those of the hub's cache, and others below the workspace and the model roots."""
    of_runs = [found for path in _below(installation.runs) for found in _of_run(path)]
    others = {found.folder: found for found in _below_roots(installation)}
    order: list[Origin] = ["uploaded", "published", "hub", "found"]
    return [*of_runs, *sorted(others.values(), key=lambda one: (order.index(one.origin), one.title))]


def at_most(adapters: Sequence[AdapterHere], most: int) -> list[AdapterHere]:
    """So many of a list, in its order: checkpoints of the oldest runs are left out first."""
    spared = max(most - sum(one.origin != "checkpoint" for one in adapters), 0)
    kept: list[AdapterHere] = []
    for one in adapters:
        if one.origin == "checkpoint":
            if not spared:
                continue
            spared -= 1
        kept.append(one)
    return kept[:most]


def _of_run(path: Path) -> Iterator[AdapterHere]:
    """What a run's folder holds; nothing of it that is a link."""
    inside = {found.name for found in _below(path)} & {"adapter", "checkpoints", "output"}
    checkpoints = _checkpoints(path / "checkpoints") if "checkpoints" in inside else []
    finished = "adapter" in inside and is_unlinked_file(path / "adapter" / ADAPTER_CONFIG)
    exported = [] if "output" not in inside else [*_with_config([path / "output", *_below(path / "output")])]
    if not (finished or checkpoints or exported):
        return
    record = _object(path / "run.json", follow=False)
    config = record.get("config")
    base = config.get("model_name") if isinstance(config, dict) else None
    base_model = base if isinstance(base, str) else None
    title = str(record.get("name") or (short_name(base_model) if base_model else path.name))
    if finished:
        yield AdapterHere(path / "adapter", "run", title, base_model, path.name)
    for step, folder in checkpoints:
        yield AdapterHere(folder, "checkpoint", title, base_model, path.name, step)
    for folder in exported:
        yield AdapterHere(folder, "exported", title, _base_of(folder), path.name)


def _checkpoints(folder: Path) -> list[tuple[int, Path]]:
    """Step and adapter of each that was written to its end, the newest first."""
    found = [(int(name[1]), path / "adapter") for path in _below(folder) if (name := CHECKPOINT.fullmatch(path.name))]
    whole = [one for one in found if is_unlinked_file(one[1].parent / MANIFEST)]
    return [one for one in sorted(whole, reverse=True) if is_unlinked_file(one[1] / ADAPTER_CONFIG)]


def _below_roots(installation: Installation) -> Iterator[AdapterHere]:
    roots = tuple(dict.fromkeys((installation.workspace, *installation.model_roots)))
    for root in roots:
        for folder in folders_below(root):
            if folder.name.startswith(HUB_PREFIX):
                yield from _cached(folder, roots)
                continue
            for adapter in _with_config([folder]):
                is_uploaded = adapter.parent == installation.uploaded_adapters
                is_published = is_unlinked_file(adapter / PASSPORT)
                origin: Origin = "uploaded" if is_uploaded else "published" if is_published else "found"
                title = adapter.name if is_uploaded else str(adapter.relative_to(root))
                yield AdapterHere(adapter, origin, adapter.name if title == "." else title, _base_of(adapter))


def _cached(folder: Path, roots: tuple[Path, ...]) -> Iterator[AdapterHere]:
    """Of a repository in the hub's cache; its files are links to those beside it, and none may lead out of the roots."""
    snapshots = [path for path in snapshots_of(folder) if (path / ADAPTER_CONFIG).is_file()]
    for snapshot in snapshots:
        if is_within(snapshot / ADAPTER_CONFIG, roots):
            title = hub_id_of(folder) if len(snapshots) == 1 else f"{hub_id_of(folder)} @ {snapshot.name[:7]}"
            base = _base_of(snapshot, follow=True)
            yield AdapterHere(snapshot, "hub", title, base)


def _with_config(folders: Sequence[Path]) -> Iterator[Path]:
    return (folder for folder in folders if is_unlinked_file(folder / ADAPTER_CONFIG))


def _base_of(folder: Path, *, follow: bool = False) -> str | None:
    name = _object(folder / ADAPTER_CONFIG, follow=follow).get("base_model_name_or_path")
    return name if isinstance(name, str) and name else None


def _object(path: Path, *, follow: bool) -> dict[str, Any]:
    """Empty for what cannot be read: a list shows what it can."""
    try:
        found = read_json(path, MAX_CONFIG_BYTES, follow=follow)
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _below(folder: Path) -> list[Path]:
    """The folders right in `folder`, the last name first; no links."""
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return []
    return [folder / name for name in sorted(names, reverse=True)]
