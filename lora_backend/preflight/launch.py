"""Launch a run: check, make the folder, start its supervisor."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from lora_backend.config.files import parse_config
from lora_backend.data.rows import read_dataset
from lora_backend.errors import ConfigError
from lora_backend.i18n import N_
from lora_backend.preflight.facts import refuse_errors
from lora_backend.preflight.placement import plan_start, refuse_what_does_not_fit
from lora_backend.preflight.planning import Trace
from lora_backend.preflight.roots import allowed_model, bind_paths, check_from_browser
from lora_backend.runs.folder import RunFolder, new_run_id
from lora_backend.runs.supervisor import start_supervisor
from lora_backend.settings import Settings


def launch_from_browser(
    text: str, settings: Settings, trace: Trace, actor: str | None = None, *, anyway: bool = False
) -> RunFolder:
    """Start a run from a config's text, with every path it names bound to the roots, as planned from what is free now.

    Raises `ConfigError`, `ModelError`, `DataError` or `DeviceError` with one sentence where it cannot start, and
    `DoesNotFitError` where it would need more memory than is free, unless `anyway`; then nothing is made.
    """
    document = parse_config(text)
    refuse_errors(check_from_browser(document, settings))
    values = bind_paths(document.values, settings)
    if not values.get("dataset"):
        raise ConfigError(N_("`dataset` is missing. Upload one on this page, or name a JSONL file in a data root."))
    allowed_model(values["model_name"], settings)
    data_sha256 = read_dataset(Path(values["dataset"])).sha256
    planned = plan_start(values, settings, trace)
    if not anyway:
        refuse_what_does_not_fit(planned, values)
    path = settings.runs / new_run_id()
    argv = [sys.executable, "-m", "lora_backend", "train", str(path / "config.yaml"), "--run-dir", str(path)]
    return start_run(path, values, text, argv, actor, data_sha256, attempt=planned.to_json())


def start_run(
    path: Path,
    values: dict[str, Any],
    text: str,
    argv: list[str],
    actor: str | None,
    data_sha256: str | None,
    name: str | None = None,
    attempt: dict[str, Any] | None = None,
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
    if attempt is not None:
        folder.new_attempt(**attempt)
    start_supervisor(folder)
    return folder
