"""One installation: where things live, and what else its processes take from outside: environment, current folder, clock.

Made at the entries (commands, pages, the torch process, public functions, supervisor, trainer) and handed down.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import platformdirs
from huggingface_hub import constants as hub

from lora_backend.clock import Clock, machine_clock

RUNS, DRAFTS, UPLOADS, QUEUE, LEASES, TRASH = "runs", "drafts", "data", "queue", "leases", "bin"
CHATS, ADAPTERS_IN = "chats", "uploaded_adapters"
OF_THE_WORKSPACE = (RUNS, DRAFTS, UPLOADS, QUEUE, LEASES, TRASH, CHATS, ADAPTERS_IN)
"""Folders of a workspace."""
DEMO_DATA = Path(__file__).with_name("demo") / "data"
SUPERVISED = "FLIGHTDECK_SUPERVISED"
"""Set for a trainer whose end a supervisor writes down."""
WAIT_POLICY = "OMP_WAIT_POLICY"
OF_A_PEER = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "GROUP_RANK")
"""What torchrun tells each process that it starts."""
OF_RAY = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS", "RAY_AUTH_TOKEN")
"""Where Ray's dashboard is, and what lets one in; the names are Ray's own."""
DECIDING = ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", SUPERVISED, WAIT_POLICY, *OF_A_PEER, *OF_RAY)
"""Variables that decide something below the entries; of all others nothing is kept."""
NETWORK, OF_NCCL = ("GLOO_SOCKET_IFNAME", "TP_SOCKET_IFNAME"), "NCCL_"
"""Variables, and the beginning of others, by which processes on several machines find one another."""
GPU_PRICE = "FLIGHTDECK_GPU_PRICE"
ROOTS = ("model_roots", "data_roots", "output_roots")


@dataclass(frozen=True)
class PeerPlace:
    """Which of the processes that train one model together this one is; all count from 0."""

    rank: int
    """Among all of them."""
    local_rank: int
    """Among those of its machine: the number of its GPU."""
    size: int
    """How many there are."""
    node: int
    """Its machine."""


@dataclass(frozen=True)
class Installation:
    """The places of one installation, all absolute, and what its process was given."""

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
    gpu_price: str = ""
    """What one GPU costs for an hour, as a person wrote it (`FLIGHTDECK_GPU_PRICE`): `1.5EUR`."""
    folder: Path = Path(os.curdir)
    """What relative paths count from that a person names: the folder in which the process was started."""
    environment: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)
    """Those of `DECIDING` that were set, and those of `network`."""
    clock: Clock = field(default=machine_clock, repr=False, compare=False)
    """What time it is, wherever a time is written down or an age is told."""

    @property
    def runs(self) -> Path:
        return self.workspace / RUNS

    @property
    def queue(self) -> Path:
        """A small file for each run that waits."""
        return self.workspace / QUEUE

    @property
    def leases(self) -> Path:
        """A lock file for each GPU and the CPU."""
        return self.workspace / LEASES

    @property
    def trash(self) -> Path:
        """Deleted runs and replaced adapters, until it is emptied."""
        return self.workspace / TRASH

    @property
    def uploads(self) -> Path:
        """Where data sets go that come through the browser; a data root."""
        return self.workspace / UPLOADS

    @property
    def chats(self) -> Path:
        """A file for each chat of the Try page."""
        return self.workspace / CHATS

    @property
    def uploaded_adapters(self) -> Path:
        """Where adapters go that come through the browser."""
        return self.workspace / ADAPTERS_IN

    @property
    def drafts(self) -> Path:
        return self.workspace / DRAFTS

    @property
    def profiles(self) -> Path:
        """What models cost, traced once."""
        return self.cache / "profiles"

    @property
    def trees(self) -> Path:
        """The modules of models, built once."""
        return self.cache / "trees"

    @property
    def seal_key(self) -> Path:
        """The key that tells this installation's commands from others'; outside of the workspace, which may be a copy."""
        return self.cache / "run.key"

    @property
    def peer(self) -> PeerPlace | None:
        """This process's place among those that train one model together; None where it trains alone."""
        values = [self.environment.get(name, "") for name in OF_A_PEER]
        if not all(value.isdecimal() for value in values):
            return None
        return PeerPlace(*map(int, values))

    @property
    def network(self) -> dict[str, str]:
        """Variables by which processes on several machines find one another, as far as they were set."""
        return {name: value for name, value in sorted(self.environment.items()) if _is_of_network(name)}

    @property
    def is_supervised(self) -> bool:
        """Whether a supervisor has started this process, and writes down its end."""
        return bool(self.environment.get(SUPERVISED))

    def around(self, run: Path) -> Installation:
        """The same, with the workspace that a run lies in: where its supervisor and its trainer lease, queue and publish
        follows from the run's folder, not from the environment or the folder in which they were started."""
        run = self.folder / run
        workspace = run.parent.parent
        if run.parent.name != RUNS or workspace == self.workspace:
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
            **{name: str(getattr(self, name)) for name in ("workspace", "cache", "folder")},
            **{name: [str(root) for root in getattr(self, name)] for name in ROOTS},
            "environment": dict(self.environment),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Installation:
        """What `to_json` gave."""
        roots: dict[str, Any] = {name: tuple(map(Path, data[name])) for name in ROOTS}
        workspace, cache, folder = (Path(data[name]) for name in ("workspace", "cache", "folder"))
        return cls(workspace, cache, **roots, folder=folder, environment=data["environment"])


def this_installation(environ: Mapping[str, str] = os.environ) -> Installation:
    """This process's, from its environment; relative paths count from its current folder."""
    folder = _current_folder()
    workspace = folder / Path(environ.get("FLIGHTDECK_WORKSPACE") or "workspace").expanduser()
    cache = folder / Path(environ.get("FLIGHTDECK_HOME") or platformdirs.user_cache_dir("lora-flightdeck")).expanduser()
    return Installation(
        workspace=workspace,
        cache=cache,
        model_roots=(
            *_paths(environ.get("FLIGHTDECK_MODEL_ROOTS"), folder),
            folder / hub.HF_HUB_CACHE,
            workspace,
            cache / "models",
        ),
        data_roots=(*_paths(environ.get("FLIGHTDECK_DATA_ROOTS"), folder), workspace / UPLOADS, DEMO_DATA),
        output_roots=(workspace, *_paths(environ.get("FLIGHTDECK_OUTPUT_ROOTS"), folder)),
        gpu_price=environ.get(GPU_PRICE, "").strip(),
        folder=folder,
        environment={name: value for name, value in environ.items() if name in DECIDING or _is_of_network(name)},
    )


def _is_of_network(name: str) -> bool:
    return name in NETWORK or name.startswith(OF_NCCL)


def _current_folder() -> Path:
    """Where it was deleted, what it is called: then only who names a relative path fails."""
    try:
        return Path.cwd()
    except OSError:
        return Path(os.curdir)


def _paths(value: str | None, folder: Path) -> tuple[Path, ...]:
    return tuple(folder / Path(part).expanduser() for part in (value or "").split(os.pathsep) if part)


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
