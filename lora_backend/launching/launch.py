"""Launch a run: check, make the folder, start it where its GPUs are free, or queue it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from lora_backend.config.config_text import parse_config
from lora_backend.data.summary import summary_of
from lora_backend.hardware.inventory import read_gpus
from lora_backend.hardware.visible import environment_for, visible_gpus
from lora_backend.planning.verdict import Verdict
from lora_backend.preflight.facts import kept_summaries
from lora_backend.preflight.plan_question import Trace
from lora_backend.preflight.roots import bind_paths
from lora_backend.preflight.start_plan import plan_attempt
from lora_backend.preflight.startable import judge, refuse_by_new_tree
from lora_backend.runs.processes.queue import start_or_queue
from lora_backend.runs.processes.trainer_command import trainer_command
from lora_backend.runs.record.run_folder import RunFolder, new_run_id
from lora_backend.settings import Settings, load_settings


def launch_from_browser(
    text: str,
    settings: Settings,
    trace: Trace,
    actor: str | None = None,
    *,
    accepts: Verdict = "fits",
    shares: bool = False,
    name: str | None = None,
) -> RunFolder:
    """Start a run from a config's text, with every path it names bound to the roots, as planned from what is free now.

    Where a run holds one of the plan's GPUs it is queued. Raises `ConfigError` for errors in the text, `CannotStartError`
    (`startable.py`) for what stands in the way here, `DeviceError` or `ModelError` for a map that cannot be used, and
    `TightError` or `DoesNotFitError` where its plan is worse than what whoever starts it `accepts` (no run of ours having
    the memory); then nothing is made. `shares`: beside other runs, leasing nothing.
    """
    document = parse_config(text)
    judged = judge(document, settings)
    judged.refuse()
    values = bind_paths(document.values, settings)
    data_sha256 = summary_of(Path(values["dataset"]), kept=kept_summaries(settings)).sha256
    try:
        attempt = plan_attempt(values, settings, trace, accepts=accepts, shares=shares)
    finally:
        refuse_by_new_tree(judged, settings)
    path = settings.runs / new_run_id()
    argv = trainer_command(path)
    return start_run(path, values, text, argv, actor, data_sha256, name=name, attempt=attempt, settings=settings)


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
    """For a run that is planned only when it has started: its model goes to the first GPU here, the one that it sees."""
    gpus = visible_gpus(read_gpus().gpus, os.environ)[0][:1]
    return {"device_uuids": [gpu.uuid for gpu in gpus], "environment": environment_for(gpus) if gpus else {}}
