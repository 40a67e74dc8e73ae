"""Which paths a config may name, and what relative ones count from. Whoever resolves a config must say it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

from lora_backend.data.hub_sets import cached_data_set
from lora_backend.errors import DataError, ModelError
from lora_backend.i18n import N_
from lora_backend.installation import path_of
from lora_backend.models.find import find_adapter, find_model


class ModelOutsideError(ModelError):
    """A model may not be named from where it was named; nothing behind the path was read."""


class DataOutsideError(DataError):
    """The same of a file of rows."""


class PathPolicy(ABC):
    """Binds the paths that a config names: nothing behind one is read before its policy has allowed it."""

    is_bound_in_publishing: bool
    """Whether an adapter must be published below an output root."""
    has_begun: bool = False
    """Whether the run goes on from a checkpoint of its own, so that the adapter it began with is not needed any more."""

    @abstractmethod
    def model(self, name: str) -> Path:
        """The model's folder, or its bare `config.json`. Raises `ModelOutsideError` for one that may not be named,
        `ModelError` where there is none."""

    @abstractmethod
    def adapter(self, name: str) -> Path:
        """The folder of an adapter to begin with. Raises `ModelOutsideError` for one that may not be named, `ModelError`
        where there is none."""

    @abstractmethod
    def data(self, name: str) -> Path:
        """A file or folder of rows, absolute, whether it is there or not; for the id of a data set in the hub's cache, its
        folder there. Raises `DataOutsideError` for one that may not be named, `DataError` for a text that can be no path."""


@dataclass(frozen=True)
class AnyPath(PathPolicy):
    """For a person at a command line, for Python, and for what was bound before: any path may be named."""

    base: Path
    """The folder that relative paths count from."""
    otherwise: tuple[Path, ...] = ()
    """Folders in which a relative path of data is looked for where `base` does not have it."""
    is_bound_in_publishing: bool = False
    has_begun: bool = False

    def model(self, name: str) -> Path:
        return find_model(from_folder(name, self.base))

    def adapter(self, name: str) -> Path:
        return find_adapter(from_folder(name, self.base))

    def data(self, name: str) -> Path:
        written = path_of(name)
        usable = [] if written is None else first_usable(written, (self.base, *self.otherwise))
        if not usable:
            raise DataError(N_("There is no data set {path}. Check the path."), path=name[:200])
        return usable[0] if usable[0].exists() else cached_data_set(name) or usable[0]


def from_folder(name: str, folder: Path) -> str:
    """The name of a model as it holds wherever it is asked for: a relative path of what is there is made absolute."""
    written = path_of(name)
    if written is None or written.is_absolute():
        return name
    place = path_of(str(folder / written))
    return str(place) if place is not None and place.exists() else name


def first_usable(written: Path, folders: tuple[Path, ...]) -> list[Path]:
    """The places that a path may mean, relative ones in each of `folders`: what is there first, impossible ones left out."""
    places = [written] if written.is_absolute() else [folder / written for folder in folders]
    usable = [place for place in places if path_of(str(place)) is not None]
    return sorted(usable, key=lambda place: not place.exists())
