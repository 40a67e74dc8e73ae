"""Launch a run: check, bind paths, make the folder, start its supervisor."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from lora_backend.config.files import parse_config
from lora_backend.data.rows import read_dataset
from lora_backend.errors import ConfigError, DataError, ModelError
from lora_backend.i18n import N_
from lora_backend.models.find import HUB_ID, find_model
from lora_backend.preflight.facts import check_with_facts, refuse_errors
from lora_backend.runs.folder import RunFolder, new_run_id
from lora_backend.runs.supervisor import start_supervisor
from lora_backend.settings import Settings, is_within


def launch_from_browser(text: str, settings: Settings, actor: str | None = None) -> RunFolder:
    """Start a run from a config's text, with every path it names bound to the roots.

    Raises `ConfigError`, `ModelError` or `DataError` with one sentence where it cannot start; then nothing is made.
    """
    document = parse_config(text)
    values = bind_paths(document.values, settings)
    refuse_errors(check_with_facts(replace(document, values=values)))
    if not values.get("dataset"):
        raise ConfigError(N_("`dataset` is missing. Upload one on this page, or name a JSONL file in a data root."))
    find_model(values["model_name"])
    data_sha256 = read_dataset(Path(values["dataset"])).sha256
    path = settings.runs / new_run_id()
    argv = [sys.executable, "-m", "lora_backend", "train", str(path / "config.yaml"), "--run-dir", str(path)]
    return start_run(path, values, text, argv, actor, data_sha256)


def start_run(
    path: Path,
    values: dict[str, Any],
    text: str,
    argv: list[str],
    actor: str | None,
    data_sha256: str | None,
    name: str | None = None,
) -> RunFolder:
    """Make the run's folder and start the supervisor that will start `argv`."""
    folder = RunFolder.create(
        path.parent,
        config=values,
        config_text=text,
        argv=argv,
        actor=actor,
        data_sha256=data_sha256,
        path=path,
        name=name,
    )
    start_supervisor(folder)
    return folder


def bind_paths(values: dict[str, Any], settings: Settings) -> dict[str, Any]:
    """`values` with data paths made absolute; raises where a path leaves the roots.

    The browser may name models below a model root or in the hub's cache, data below a data root, and an output
    folder below the workspace.
    """
    bound = dict(values)
    model = values.get("model_name")
    if (
        isinstance(model, str)
        and model
        and not HUB_ID.fullmatch(model)
        and not is_within(Path(model), settings.model_roots)
    ):
        raise ModelError(
            N_(
                "The model {path} lies outside the folders that the browser may use ({roots}). Move it there, or add its folder to FLIGHTDECK_MODEL_ROOTS and restart."
            ),
            path=model,
            roots=_listed(settings.model_roots),
        )
    for key in ("dataset", "questions"):
        if isinstance(value := values.get(key), str) and value:
            bound[key] = str(_bound_data_path(value, settings))
    output = values.get("output_dir")
    if isinstance(output, str) and output and not is_within(settings.workspace / output, (settings.workspace,)):
        raise ConfigError(N_("`output_dir` must lie below the workspace {path}."), path=str(settings.workspace))
    return bound


def _bound_data_path(name: str, settings: Settings) -> Path:
    candidates = [root / name for root in settings.data_roots] if not Path(name).is_absolute() else [Path(name)]
    path = next((candidate for candidate in candidates if candidate.exists()), candidates[0])
    if not is_within(path, settings.data_roots):
        raise DataError(
            N_(
                "The data set {path} lies outside the folders that the browser may use ({roots}). Upload it, or add its folder to FLIGHTDECK_DATA_ROOTS and restart."
            ),
            path=name,
            roots=_listed(settings.data_roots),
        )
    return path


def _listed(roots: tuple[Path, ...]) -> str:
    return ", ".join(map(str, roots))
