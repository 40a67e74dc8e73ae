"""Launch a run: check, make the folder, start it where its GPUs are free, or queue it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lora_backend.config.files import parse_config
from lora_backend.data.summary import summary_of
from lora_backend.errors import ConfigError
from lora_backend.hardware.inventory import read_gpus
from lora_backend.hardware.visible import visible_gpus
from lora_backend.i18n import N_
from lora_backend.preflight.facts import kept_summaries, refuse_errors
from lora_backend.preflight.placement import DoesNotFitError, plan_start, refuse_what_does_not_fit, start_environment
from lora_backend.preflight.planning import Trace
from lora_backend.preflight.roots import allowed_model, bind_paths, check_from_browser
from lora_backend.runs.folder import RunFolder, new_run_id
from lora_backend.runs.leases import holders, lease_keys
from lora_backend.runs.queue import ReadGpus, planned_bytes, start_or_queue
from lora_backend.runs.trainer_command import trainer_command
from lora_backend.runs.waiting import leases_folder
from lora_backend.settings import Settings, load_settings


def launch_from_browser(
    text: str,
    settings: Settings,
    trace: Trace,
    actor: str | None = None,
    *,
    anyway: bool = False,
    shares: bool = False,
    name: str | None = None,
) -> RunFolder:
    """Start a run from a config's text, with every path it names bound to the roots, as planned from what is free now.

    Where a run holds one of the plan's GPUs it is queued. Raises `ConfigError`, `ModelError`, `DataError` or
    `DeviceError` with one sentence where it cannot start, and `DoesNotFitError` where it would need more memory than is
    free, unless `anyway`, or a run of ours has that memory; then nothing is made. `shares`: beside other runs, leasing
    nothing.
    """
    document = parse_config(text)
    refuse_errors(check_from_browser(document, settings))
    values = bind_paths(document.values, settings)
    if not values.get("dataset"):
        raise ConfigError(N_("`dataset` is missing. Upload one on this page, or name a JSONL file in a data root."))
    allowed_model(values["model_name"], settings)
    data_sha256 = summary_of(Path(values["dataset"]), kept=kept_summaries(settings)).sha256
    attempt = plan_attempt(values, settings, trace, anyway=anyway, shares=shares)
    path = settings.runs / new_run_id()
    argv = trainer_command(path)
    return start_run(path, values, text, argv, actor, data_sha256, name=name, attempt=attempt, settings=settings)


def plan_attempt(
    values: Mapping[str, Any],
    settings: Settings,
    trace: Trace,
    *,
    anyway: bool = False,
    shares: bool = False,
    environment: Mapping[str, str] = os.environ,
) -> dict[str, Any]:
    """What an attempt's file says of its plan. Raises `DoesNotFitError` as `launch_from_browser` does."""
    planned = plan_start(values, settings, trace, environment)
    attempt = planned.to_json() | ({"anyway": True} if anyway else {}) | ({"shares": True} if shares else {})
    if not anyway:
        try:
            refuse_what_does_not_fit(planned, values)
        except DoesNotFitError:
            if not waiting_helps(attempt, settings):
                raise
    return attempt


def waiting_helps(attempt: Mapping[str, Any], settings: Settings, read: ReadGpus = read_gpus) -> bool:
    """Whether a plan that does not fit now may fit when the runs end that hold its devices."""
    if not holders(leases_folder(settings.workspace), lease_keys(attempt)):
        return False
    needed, sizes = planned_bytes(attempt), {gpu.uuid: gpu.total_bytes for gpu in read().gpus}
    return all(size <= sizes.get(uuid, 0) for uuid, size in needed.items())


def start_run(
    path: Path,
    values: dict[str, Any],
    text: str,
    argv: list[str],
    actor: str | None,
    data_sha256: str | None,
    name: str | None = None,
    attempt: dict[str, Any] | None = None,
    settings: Settings | None = None,
) -> RunFolder:
    """Make the run's folder and start the supervisor that will start `argv`, or queue it while others have its devices."""
    folder = RunFolder.create(
        path.parent,
        config=values,
        config_text=text,
        argv=argv,
        actor=actor,
        data_sha256=data_sha256,
        path=path,
        name=name,
        state="queued",
        attempt=attempt if attempt is not None else _first_device(),
    )
    try:
        start_or_queue(folder, (settings or load_settings()).workspace)
    except OSError:  # no room for its place in the queue: it must not start later, when nobody expects it
        if folder.status().get("state") == "queued":
            shutil.rmtree(folder.path, ignore_errors=True)
        raise
    return folder


def _first_device() -> dict[str, Any]:
    """For a run that is planned only when it has started: its model goes to the first GPU that it sees."""
    environment = start_environment()
    gpus, _ = visible_gpus(read_gpus().gpus, environment)
    return {"device_uuids": [gpu.uuid for gpu in gpus[:1]], "environment": environment}
