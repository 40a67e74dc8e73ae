"""Where a run's adapter is published, and whether that may be: one answer for check, browser, launch and trainer.

The place is `<output_dir>/<pkg>/<version>[/<knowledge_type>]`. A relative `output_dir` counts from the workspace, and `~`
is written out before anything is judged. Nobody may publish into Flightdeck's own folders, a model or another adapter.
"""

from __future__ import annotations

import errno
import os
import pwd
import stat
import unicodedata
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from huggingface_hub import constants as hub
from pydantic import TypeAdapter, ValidationError

from lora_backend.bounded import read_json
from lora_backend.config.key_queries import keys_of_path
from lora_backend.config.key_values import Name
from lora_backend.config.schema import KEYS
from lora_backend.errors import ConfigError
from lora_backend.i18n import N_
from lora_backend.installation import OF_THE_WORKSPACE, Installation, is_within, path_of
from lora_backend.runs.record.run_folder import RunFolder
from lora_backend.verification.passport import FILE as PASSPORT
from lora_backend.verification.passport import file_sha256

PLACE = keys_of_path("published")
"""Keys that say where an adapter is published."""
NAMES = PLACE[1:]
"""Those below `output_dir`."""
ADAPTER_CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
MOST_PARTS = 100
"""Folders on the way to `output_dir`; thousands fit into a path, and Python gives up on making them."""
_UNREACHABLE = N_("No adapter can be published in {path}: {reason}. Choose another `{key}`.")
_NAME: TypeAdapter[str] = TypeAdapter(Name)


class PublicationError(ConfigError):
    """No adapter may be published where the config says; `key` is the setting to change."""

    def __init__(self, key: str, template: str, /, **values: Any) -> None:
        self.key = key
        super().__init__(template, **values)


@dataclass(frozen=True)
class Publication:
    """A place where an adapter may be published."""

    path: Path
    """Absolute, every link resolved."""
    standing: Literal["nothing", "adapter", "other"]
    """What is there now: nothing (or an empty folder), an adapter that Flightdeck published, or something else."""


class _Step(NamedTuple):
    """One folder on the way from `output_dir` to the place, and the key that names it."""

    key: str
    path: Path


class _Way(NamedTuple):
    """A resolved path, and what the file system says of the folders on it: it may not tell `Runs` from `runs`, or show
    one folder in two places."""

    path: Path
    identities: tuple[tuple[int, int], ...]
    exists: bool

    @classmethod
    def to(cls, path: Path) -> _Way:
        found = [_identity(part) for part in (path, *path.parents)]
        return cls(path, tuple(identity for identity in found if identity), found[0] is not None)

    def leads_into(self, folder: Path) -> bool:
        """Whether it ends at `folder` or below it."""
        resolved = folder.resolve()
        return self.path.is_relative_to(resolved) or _identity(resolved) in self.identities


def publication_of(values: Mapping[str, Any], installation: Installation, *, bound: bool) -> Publication | None:
    """Where a config's adapter goes at the end of its run; None where it stays in the run's folder.

    `bound`: `output_dir` must lie in the workspace or another output root, as for all that does not train in the very
    process in which a person named the path. Raises `PublicationError` for a place where nobody may publish.
    """
    names, default = _names(values), KEYS["output_dir"].default
    output_dir = values.get("output_dir", default)
    if names is None and (not bound or output_dir == default):
        return None
    if not isinstance(output_dir, str) or not output_dir:
        return None
    folder = _output_folder(output_dir, installation)
    if bound and not is_within(folder, installation.output_roots):
        raise PublicationError(
            "output_dir",
            N_("`output_dir` must be below {roots}. Choose a folder there, or add yours to FLIGHTDECK_OUTPUT_ROOTS and restart."),
            roots=", ".join(map(str, installation.output_roots)),
        )  # fmt: skip
    if names is None:
        return None
    steps = [_Step("output_dir", folder)]
    for key, name in names.items():
        steps.append(_Step(key, steps[-1].path / name))
    _refuse_unusable(steps)
    _refuse_kept(steps, installation)
    _refuse_models(steps, installation)
    return Publication(steps[-1].path, _standing(steps[-1]))


def refuse_what_stands(publication: Publication, *, may_replace: bool) -> None:
    """Raise `PublicationError` where something stands in the place that a run must leave there."""
    if publication.standing == "other":
        raise PublicationError("version", N_("{path} is not an adapter that Flightdeck published. Choose another `version` or `output_dir`."), path=str(publication.path))  # fmt: skip
    if publication.standing == "adapter" and not may_replace:
        raise PublicationError("version", N_("There is already an adapter in {path}. Set `overwrite: true`, or another `version`."), path=str(publication.path))  # fmt: skip


def place_of(values: Mapping[str, Any], installation: Installation) -> Path | None:
    """The same place, not judged: to tell whether two configs publish to one. None where there is none to tell."""
    names, output_dir = _names(values), values.get("output_dir", KEYS["output_dir"].default)
    if names is None or not isinstance(output_dir, str) or not output_dir:
        return None
    try:
        return _output_folder(output_dir, installation).joinpath(*names.values())
    except PublicationError:
        return None


def is_published_adapter(path: Path) -> bool:
    """Whether `path` is recognisably an adapter that Flightdeck published: a folder of plain files with our passport."""
    try:
        if not stat.S_ISDIR(path.lstat().st_mode):
            return False
        with os.scandir(path) as entries:
            names = {entry.name: entry.is_file(follow_symlinks=False) for entry in entries}
        # A folder in it would go along, and may be another adapter.
        if not all(names.values()) or not names.keys() >= {ADAPTER_CONFIG, PASSPORT}:
            return False
        passport = read_json(path / PASSPORT)
    except (OSError, ValueError):
        return False
    return isinstance(passport, dict) and isinstance(passport.get("config"), dict) and "tensors_sha256" in passport


def is_published_by(run: RunFolder, target: Path) -> bool:
    """Whether the adapter in `target` is that of this start of the run or of one before: same weights, to the byte."""
    try:
        published = file_sha256(target / WEIGHTS)
        ours = [run.adapter, *run.attempts.glob("*.adapter")]
        return any(file_sha256(adapter / WEIGHTS) == published for adapter in ours if (adapter / WEIGHTS).is_file())
    except OSError:
        return False


def _names(values: Mapping[str, Any]) -> dict[str, str] | None:
    """`pkg`, `version` and `knowledge_type` where a config publishes; None where it does not, or one is no name."""
    if not (values.get("pkg") and values.get("version")):
        return None
    names = {key: values[key] for key in NAMES if values.get(key)}
    try:
        return {key: _NAME.validate_python(name, strict=True) for key, name in names.items()}
    except ValidationError:  # which the schema's own check says
        return None


def _output_folder(output_dir: str, installation: Installation) -> Path:
    written = path_of(output_dir)
    try:
        whole = None if written is None else installation.workspace / written
        if whole is not None and len(whole.parts) <= MOST_PARTS and path_of(str(whole)) is not None:
            return whole.resolve()
    except (OSError, ValueError, RuntimeError):  # links in a circle
        pass
    raise PublicationError("output_dir", N_("`output_dir` {path} cannot be a folder on this machine. Choose another."), path=output_dir[:200])  # fmt: skip


def _refuse_unusable(steps: list[_Step]) -> None:
    """Names that are too long, links and files in the way: the output folder is resolved, so any link is below it."""
    for key, path in steps:
        kind = _kind(path, key)
        if not os.access(next(part for part in (path, *path.parents) if part.exists()), os.W_OK):
            raise PublicationError(key, _UNREACHABLE, path=str(path), reason=os.strerror(errno.EACCES), key=key)
        if kind is not None and stat.S_ISLNK(kind):
            raise PublicationError(key, N_("{path} is a link, and adapters are not published through links. Choose another `{key}`, or put a folder there."), path=str(path), key=key)  # fmt: skip
        if kind is not None and not stat.S_ISDIR(kind):
            raise PublicationError(key, N_("{path} is a file, so no adapter can be published there. Choose another `{key}`."), path=str(path), key=key)  # fmt: skip


def _kind(path: Path, key: str) -> int | None:
    """The mode of what is at `path`, a link itself; None where nothing is."""
    try:
        return path.lstat().st_mode
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:  # a file on the way to it among them
        reason = getattr(error, "strerror", None) or str(error)
        raise PublicationError(key, _UNREACHABLE, path=str(path)[:300], reason=reason, key=key) from error


def _refuse_kept(steps: list[_Step], installation: Installation) -> None:
    """Flightdeck's own folders and the caches of models, whether at, below or above them."""
    target, workspace = steps[-1].path, installation.workspace.resolve()
    kept = [workspace / name for name in OF_THE_WORKSPACE]
    # A cache may be the folder that the workspace lies in.
    kept += [cache for cache in (installation.cache, Path(hub.HF_HUB_CACHE)) if not is_within(workspace, (cache,))]
    ways = {_Way.to(path): key for key, path in steps}
    *_, whole = ways
    for folder in kept:
        if whole.leads_into(folder) or _is_named_alike(target, folder, workspace):
            key = next(key for way, key in ways.items() if way.leads_into(folder) or _is_named_alike(way.path, folder, workspace))  # fmt: skip
            raise PublicationError(
                key,
                N_("Adapters cannot be published in {path}: Flightdeck uses {folder} for other files. Choose another `{key}`."),
                path=str(target),
                folder=str(folder),
                key=key,
            )  # fmt: skip
    roots = (*installation.model_roots, *installation.data_roots, *installation.output_roots)
    for folder in (workspace, *kept, *_homes(), *roots):
        if folder.resolve().is_relative_to(target) or (whole.exists and _Way.to(folder.resolve()).leads_into(target)):
            raise PublicationError(
                steps[-1].key,
                N_("No adapter can be published as {path}: {folder} is in the way. Choose another `{key}`."),
                path=str(target),
                folder=str(folder),
                key=steps[-1].key,
            )


def _refuse_models(steps: list[_Step], installation: Installation) -> None:
    """A folder that lies in a model, or in another adapter, would go with it, or be taken for a part of it."""
    target, workspace = steps[-1].path, installation.workspace.resolve()
    for parent in target.parents:
        if parent == workspace:  # whatever it was made in
            return
        if holds_a_model(parent):
            key = next(key for key, path in steps if path.is_relative_to(parent))
            raise PublicationError(
                key,
                N_("No adapter can be published in {path}: {folder} contains a model or another adapter. Choose another `{key}`."),
                path=str(target),
                folder=str(parent),
                key=key,
            )  # fmt: skip


def holds_a_model(folder: Path) -> bool:
    """Whether a folder is a model's or an adapter's."""
    if (folder / ADAPTER_CONFIG).is_file():
        return True
    try:
        config = read_json(folder / "config.json")
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and not config.keys().isdisjoint(("model_type", "architectures"))


def _standing(place: _Step) -> Literal["nothing", "adapter", "other"]:
    if _kind(place.path, place.key) is None:
        return "nothing"
    try:
        is_empty = not any(place.path.iterdir())
    except OSError:
        return "other"
    return "nothing" if is_empty else "adapter" if is_published_adapter(place.path) else "other"


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:  # not there yet
        return None
    return found.st_dev, found.st_ino


def _is_named_alike(path: Path, folder: Path, workspace: Path) -> bool:
    """Whether a file system that ignores case or forms of letters may take the two for one, before either is made."""
    if folder.parent != workspace or not path.is_relative_to(workspace) or path == workspace:
        return False
    first = path.relative_to(workspace).parts[0]
    return unicodedata.normalize("NFKC", first).casefold() == folder.name


def _homes() -> list[Path]:
    homes = [os.path.expanduser("~")]  # noqa: PTH111 - Path.home raises where there is none
    with suppress(KeyError):
        homes.append(pwd.getpwuid(os.getuid()).pw_dir)
    return [Path(home) for home in homes if os.path.isabs(home)]  # noqa: PTH117
