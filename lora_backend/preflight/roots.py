"""Paths that come through the browser: bound to the roots, and refused before anything behind them is read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lora_backend.data.hub_sets import cached_data_set, hub_cache
from lora_backend.errors import DataError, ModelError
from lora_backend.i18n import N_
from lora_backend.installation import Installation, is_within, path_of
from lora_backend.models.find import HUB_ID, find_adapter, find_model
from lora_backend.preflight.path_policy import (
    DataOutsideError,
    ModelOutsideError,
    PathPolicy,
    first_usable,
    from_folder,
)
from lora_backend.symlinks import LinkRefusedError, links_below, refuse_ways_out
from lora_backend.verification.adapter_folder import adapter_within


@dataclass(frozen=True)
class BrowserRoots(PathPolicy):
    """The browser may name models below a model root or in the hub's cache, data below a data root, and an output
    folder below an output root, where `publication_of` lets an adapter be."""

    installation: Installation
    is_bound_in_publishing: bool = True

    def model(self, name: str) -> Path:
        """Raises `ModelOutsideError` outside the roots, and for a folder in which a link leads there."""
        roots = self.installation.model_roots
        # `../model` looks like a hub id, so what is on the disk is a path whatever it looks like. Behind what no file
        # system takes nothing lies.
        path = path_of(from_folder(name, self.installation.folder))
        is_hub_id = path is not None and HUB_ID.fullmatch(name) is not None and not path.exists()
        if path is not None and not is_hub_id and not is_within(path, roots):
            raise ModelOutsideError(
                N_(
                    "The model {path} is outside the folders that the browser may use ({roots}). Move it there, or add its folder to FLIGHTDECK_MODEL_ROOTS and restart."
                ),
                path=name,
                roots=_listed(roots),
            )
        model = find_model(from_folder(name, self.installation.folder))
        try:
            refuse_ways_out(model if model.is_dir() else model.parent, roots)
        except LinkRefusedError as error:
            raise ModelOutsideError(error.message.template, **error.message.values) from error
        return model

    def adapter(self, name: str) -> Path:
        """Below the workspace, from which relative paths count, or a model root. Raises `ModelOutsideError` outside of
        them, and for a folder in which a link leads there."""
        roots, named = browser_roots(self.installation), from_folder(name, self.installation.workspace)
        path = path_of(named)
        is_hub_id = path is not None and HUB_ID.fullmatch(named) is not None and not path.exists()
        if path is None or not (is_hub_id or is_within(path, roots)):
            raise ModelOutsideError(
                N_(
                    "The adapter {path} is outside the folders that the browser may use ({roots}). Move it there, or add its folder to FLIGHTDECK_MODEL_ROOTS and restart."
                ),
                path=name[:200],
                roots=_listed(roots),
            )
        folder = find_adapter(named)
        try:
            refuse_ways_out(folder, roots)
        except LinkRefusedError as error:
            raise ModelOutsideError(error.message.template, **error.message.values) from error
        return folder

    def data(self, name: str) -> Path:
        """Relative paths count from each data root. Raises `DataOutsideError` outside of them, and for a folder in which
        a link leads there."""
        roots, written = self.installation.data_roots, path_of(name)
        usable = [] if written is None else first_usable(written, roots)
        cached = None if usable and usable[0].exists() else cached_data_set(name)
        if cached is not None:
            return _without_ways_out(cached, (hub_cache(),))
        if not usable or not is_within(usable[0], roots):
            raise DataOutsideError(
                N_(
                    "The data set {path} is outside the folders that the browser may use ({roots}). Upload it, or add its folder to FLIGHTDECK_DATA_ROOTS and restart."
                ),
                path=name[:200],
                roots=_listed(roots),
            )
        return _without_ways_out(usable[0], roots)


def _without_ways_out(data: Path, roots: tuple[Path, ...]) -> Path:
    """Raise `DataOutsideError` where a link below a folder of rows leads out of `roots`."""
    folder = data.resolve() if data.is_dir() else data
    for link in links_below(folder):
        if not is_within(folder / link, roots):
            raise DataOutsideError(
                N_(
                    "{name} in {folder} is a symbolic link to a place outside the allowed folders ({roots}), so {folder} is not read. Replace the link with the file itself."
                ),
                name=link,
                folder=str(data),
                roots=_listed(roots),
            )
    return data


def allowed_model(name: str, installation: Installation) -> Path:
    """`find_model` for a name that came through the browser. Raises `ModelError` as `BrowserRoots.model` does."""
    return BrowserRoots(installation).model(name)


def may_read_data(path: Path, installation: Installation) -> bool:
    """Whether the browser may name a file or folder of rows."""
    try:
        BrowserRoots(installation).data(str(path))
    except DataError:
        return False
    return True


def allowed_folder(name: str, installation: Installation) -> Path:
    """The folder `name` that came through the browser; a relative path counts from the workspace.

    Raises `ModelError` outside the workspace and the model roots.
    """
    return _allowed(
        name, installation, N_("The folder {path} is outside the folders that the browser may use ({roots}).")
    )


def allowed_adapter(name: str, installation: Installation) -> Path:
    """The same for an adapter's folder, or the one in a checkpoint's. Raises `LinkRefusedError` where a file in it is a link that leads outside."""
    folder = allowed_folder(name, installation)
    refuse_ways_out(folder, browser_roots(installation))
    return adapter_within(folder)


def browser_roots(installation: Installation) -> tuple[Path, ...]:
    """What the browser may name folders and configs in."""
    return tuple(dict.fromkeys((installation.workspace, *installation.model_roots)))


def allowed_config(name: str, installation: Installation) -> Path:
    """The same for a config's file."""
    return _allowed(
        name, installation, N_("The file {path} is outside the folders that the browser may use ({roots}).")
    )


def _allowed(name: str, installation: Installation, refusal: str) -> Path:
    written = path_of(name)
    roots = browser_roots(installation)
    path = None if written is None else installation.workspace / written
    if path is None or not is_within(path, roots):
        raise ModelError(refusal, path=name[:200], roots=_listed(roots))
    return path


def _listed(roots: tuple[Path, ...]) -> str:
    return ", ".join(map(str, roots))
