"""Where things live: workspace, model roots, data roots and cache, each from an environment variable."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import platformdirs
from huggingface_hub import constants as hub

DEMO_DATA = Path(__file__).with_name("demo") / "data"


@dataclass(frozen=True)
class Installation:
    """The places of one installation, all absolute."""

    workspace: Path
    """Runs, drafts and uploaded data (`FLIGHTDECK_WORKSPACE`, default `./workspace`)."""
    cache: Path
    """What can be made again: the demo model (`FLIGHTDECK_HOME`, default the user's cache folder)."""
    model_roots: tuple[Path, ...]
    """Folders from which the browser may name a model (`FLIGHTDECK_MODEL_ROOTS`)."""
    data_roots: tuple[Path, ...]
    """Folders from which the browser may name a data set (`FLIGHTDECK_DATA_ROOTS`), uploads and the demo's data."""
    output_roots: tuple[Path, ...]
    """Folders below which adapters are published: the workspace, and those of `FLIGHTDECK_OUTPUT_ROOTS`. A person who
    trains at the command line or from Python may name any other."""

    @property
    def runs(self) -> Path:
        return self.workspace / "runs"

    @property
    def uploads(self) -> Path:
        """Where data sets go that come through the browser; a data root."""
        return self.workspace / "data"

    @property
    def drafts(self) -> Path:
        return self.workspace / "drafts"

    def around(self, run: Path) -> Installation:
        """The same places, with the workspace that a run lies in: where its trainer leases and publishes follows from
        the run's folder, not from the environment or the folder in which the trainer was started."""
        workspace = run.absolute().parent.parent
        if run.parent.name != "runs" or workspace == self.workspace:
            return self

        def moved(roots: tuple[Path, ...]) -> tuple[Path, ...]:
            return tuple(
                workspace / root.relative_to(self.workspace) if root.is_relative_to(self.workspace) else root
                for root in roots
            )

        return replace(
            self,
            workspace=workspace,
            model_roots=moved(self.model_roots),
            data_roots=moved(self.data_roots),
            output_roots=moved(self.output_roots),
        )

    def to_json(self) -> dict[str, Any]:
        """For a process of ours, which is told where things live and does not look for it itself."""
        return {
            name: [str(path) for path in value] if isinstance(value, tuple) else str(value)
            for name, value in asdict(self).items()
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Installation:
        """What `to_json` gave."""
        places: dict[str, Any] = {
            name: tuple(map(Path, value)) if isinstance(value, list) else Path(value) for name, value in data.items()
        }
        return cls(**places)


def this_installation(environ: Mapping[str, str] = os.environ) -> Installation:
    """Read the places from the environment; relative paths count from the current folder."""
    workspace = Path(environ.get("FLIGHTDECK_WORKSPACE") or "workspace").expanduser().absolute()
    cache = (
        Path(environ.get("FLIGHTDECK_HOME") or platformdirs.user_cache_dir("lora-flightdeck")).expanduser().absolute()
    )
    return Installation(
        workspace=workspace,
        cache=cache,
        model_roots=(
            *_paths(environ.get("FLIGHTDECK_MODEL_ROOTS")),
            Path(hub.HF_HUB_CACHE).absolute(),
            workspace,
            cache / "models",
        ),
        data_roots=(*_paths(environ.get("FLIGHTDECK_DATA_ROOTS")), workspace / "data", DEMO_DATA),
        output_roots=(workspace, *_paths(environ.get("FLIGHTDECK_OUTPUT_ROOTS"))),
    )


def _paths(value: str | None) -> tuple[Path, ...]:
    return tuple(Path(part).expanduser().absolute() for part in (value or "").split(os.pathsep) if part)


def path_of(text: str) -> Path | None:
    """The path that `text` names, `~` written out; None where no file system takes it.

    A null byte, half a surrogate pair, a name that is too long and the home of nobody all come from real configs.
    """
    try:
        path = Path(text).expanduser()
        os.fsencode(path)
        path.stat()
    except FileNotFoundError:
        return path
    except (OSError, ValueError, RuntimeError) as error:
        return path if isinstance(error, PermissionError | NotADirectoryError) else None
    return path


def is_within(path: Path, roots: tuple[Path, ...]) -> bool:
    """Whether `path`, with every symlink followed, lies in one of `roots`."""
    try:
        resolved = path.resolve()
        return any(resolved.is_relative_to(root.resolve()) for root in roots)
    except (OSError, ValueError, RuntimeError):  # symlinks in a circle, a null byte: it lies nowhere
        return False


def child_environment(**more: str) -> dict[str, str]:
    """The environment for a Python process of ours: it finds this package whatever folder the caller runs in."""
    project = str(Path(__file__).parents[1])
    search = os.pathsep.join([project, *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, "PYTHONPATH": search, **more}
