"""Paths that come through the browser: bound to the roots, and refused before anything behind them is read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from lora_backend.config.config_text import ConfigDocument
from lora_backend.config.key_queries import DATA_KEYS
from lora_backend.config.rules import Facts
from lora_backend.errors import DataError, FlightdeckError, ModelError
from lora_backend.i18n import N_
from lora_backend.models.find import HUB_ID, find_model
from lora_backend.preflight.facts import Readers, gather_facts
from lora_backend.runs.checkpoints.publication import publication_of
from lora_backend.settings import Settings, is_within, path_of
from lora_backend.symlinks import LinkRefusedError, refuse_ways_out
from lora_backend.verification.adapter_folder import adapter_within


def bind_paths(values: Mapping[str, Any], settings: Settings) -> dict[str, Any]:
    """`values` with data paths made absolute; raises where a path leaves the roots.

    The browser may name models below a model root or in the hub's cache, data below a data root, and an output
    folder below an output root, where `publication_of` lets an adapter be.
    """
    for _, error in _escapes(values, settings):
        raise error
    publication_of(values, settings, bound=True)  # which raises
    return _with_data_bound(values, settings)


def _with_data_bound(values: Mapping[str, Any], settings: Settings) -> dict[str, Any]:
    paths: dict[str, Any] = {
        key: str(_data_path(values[key], settings)) for key in DATA_KEYS if _is_path(values.get(key))
    }
    return {**values, **paths}


def from_browser(
    document: ConfigDocument, settings: Settings, readers: Readers | None = None
) -> tuple[ConfigDocument, Facts]:
    """A config with the paths that its data has in the roots, and what is known of its files; what lies outside is not
    read, and said."""
    inside, escapes = within_roots(document.values, settings)
    facts = gather_facts(inside, readers=readers, settings=settings, bound=True)
    problems = (*facts.problems, *(("error", key, error.message) for key, error in escapes.items()))
    return replace(document, values={**document.values, **inside}), replace(facts, problems=problems)


def within_roots(values: Mapping[str, Any], settings: Settings) -> tuple[dict[str, Any], dict[str, FlightdeckError]]:
    """`values` with data paths made absolute and without those that leave the roots; key → why it does."""
    escapes = dict(_escapes(values, settings))
    return _with_data_bound({key: value for key, value in values.items() if key not in escapes}, settings), escapes


def allowed_model(name: str, settings: Settings) -> Path:
    """`find_model` for a name that came through the browser. Raises `ModelError` outside the roots, and for a folder
    in which a link leads there."""
    if escape := _escape_of_model(name, settings):
        raise escape
    return find_model(name)


def allowed_folder(name: str, settings: Settings) -> Path:
    """The folder `name` that came through the browser; a relative path counts from the workspace.

    Raises `ModelError` outside the workspace and the model roots.
    """
    return _allowed(
        name, settings, N_("The folder {path} lies outside the folders that the browser may use ({roots}).")
    )


def allowed_adapter(name: str, settings: Settings) -> Path:
    """The same for an adapter's folder, or the one in a checkpoint's. Raises `LinkRefusedError` where a file in it is a link that leads outside."""
    folder = allowed_folder(name, settings)
    refuse_ways_out(folder, browser_roots(settings))
    return adapter_within(folder)


def browser_roots(settings: Settings) -> tuple[Path, ...]:
    """What the browser may name folders and configs in."""
    return tuple(dict.fromkeys((settings.workspace, *settings.model_roots)))


def allowed_config(name: str, settings: Settings) -> Path:
    """The same for a config's file."""
    return _allowed(name, settings, N_("The file {path} lies outside the folders that the browser may use ({roots})."))


def _allowed(name: str, settings: Settings, refusal: str) -> Path:
    written = path_of(name)
    roots = browser_roots(settings)
    path = None if written is None else settings.workspace / written
    if path is None or not is_within(path, roots):
        raise ModelError(refusal, path=name[:200], roots=_listed(roots))
    return path


def _escapes(values: Mapping[str, Any], settings: Settings) -> Iterator[tuple[str, FlightdeckError]]:
    """Each key whose path leaves the roots, with the sentence that says so."""
    model = values.get("model_name")
    if _is_path(model) and (escape := _escape_of_model(str(model), settings)):
        yield "model_name", escape
    for key in DATA_KEYS:
        path = _data_path(values[key], settings) if _is_path(values.get(key)) else None
        if _is_path(values.get(key)) and (path is None or not is_within(path, settings.data_roots)):
            yield key, DataError(
                N_("The data set {path} lies outside the folders that the browser may use ({roots}). Upload it, or add its folder to FLIGHTDECK_DATA_ROOTS and restart."),
                path=values[key][:200],
                roots=_listed(settings.data_roots),
            )  # fmt: skip


def _is_path(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _escape_of_model(name: str, settings: Settings) -> FlightdeckError | None:
    """Why the browser may not name this model; None where it may."""
    # `../model` looks like a hub id, so what is on the disk is a path whatever it looks like.
    path = path_of(name)
    if path is None:  # no file system takes it, so nothing lies behind it
        return None
    is_hub_id = HUB_ID.fullmatch(name) is not None and not path.exists()
    if not is_hub_id and not is_within(path, settings.model_roots):
        return _outside_model_roots(name, settings)
    try:
        model = find_model(name)
        refuse_ways_out(model if model.is_dir() else model.parent, settings.model_roots)
    except LinkRefusedError as error:
        return ModelError(error.message.template, **error.message.values)
    except ModelError:  # there is none, which whoever reads it says
        return None
    return None


def _outside_model_roots(name: str, settings: Settings) -> ModelError:
    return ModelError(
        N_("The model {path} lies outside the folders that the browser may use ({roots}). Move it there, or add its folder to FLIGHTDECK_MODEL_ROOTS and restart."),
        path=name,
        roots=_listed(settings.model_roots),
    )  # fmt: skip


def _data_path(name: str, settings: Settings) -> Path | None:
    path = path_of(name)
    if path is None:
        return None
    candidates = [path] if path.is_absolute() else [root / path for root in settings.data_roots]
    usable = [candidate for candidate in candidates if path_of(str(candidate)) is not None]
    return next((candidate for candidate in usable if candidate.exists()), usable[0] if usable else None)


def _listed(roots: tuple[Path, ...]) -> str:
    return ", ".join(map(str, roots))
