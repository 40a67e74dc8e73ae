"""Launch a run: check, make the folder, start it where its GPUs are free, or queue it."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from lora_backend.config.config_writing import with_values
from lora_backend.hardware.inventory import read_gpus
from lora_backend.hardware.visible import environment_for, visible_gpus
from lora_backend.installation import Installation
from lora_backend.launching.meeting import refuse_without_meeting, settled_for_all
from lora_backend.launching.requests import StartRequest
from lora_backend.preflight.data_asked import Count
from lora_backend.preflight.plan_question import Trace
from lora_backend.preflight.start_plan import plan_attempt
from lora_backend.preflight.startable import judge, refuse_by_new_tree, refuse_rows
from lora_backend.runs.processes.queue import start_or_queue
from lora_backend.runs.processes.trainer_command import trainer_command
from lora_backend.runs.record.attempts import Attempt
from lora_backend.runs.record.documents import WrittenState
from lora_backend.runs.record.meetings import run_id_of
from lora_backend.runs.record.run_store import RunStore, new_run_id
from lora_backend.runs.record.transitions import NewRun, create


def launch(request: StartRequest, trace: Trace, count: Count | None = None) -> RunStore:
    """Start a run as planned from what is free now. `count`: its rows are counted first, unless they were before.

    Where a run holds one of the plan's GPUs it is queued. Raises `ConfigError` for errors in the text, and for several
    machines that nobody said where to meet, `CannotStartError`
    (`startable.py`) for what stands in the way here, `DeviceError` or `ModelError` for a map that cannot be used, and
    `TightError` or `DoesNotFitError` where its plan is worse than what whoever starts it accepts (no run of ours having
    the memory); then nothing is made.
    """
    judged, options = judge(request.config), request.options
    judged.refuse()
    refuse_without_meeting(request.config.config.num_nodes, options.meeting)
    refuse_rows(judged, count)
    try:
        attempt = plan_attempt(
            request.config, trace, accepts=options.accepts, shares=options.shares, meeting=options.meeting
        )
    finally:
        refuse_by_new_tree(judged)
    installation = request.config.installation
    path = installation.runs / (
        new_run_id(installation.clock) if options.meeting is None else run_id_of(options.meeting)
    )
    return start_run(request, path, trainer_command(path), attempt)


def start_run(request: StartRequest, path: Path, argv: Sequence[str], attempt: Attempt | None = None) -> RunStore:
    """Make the run's folder and start the supervisor that will start `argv`, or queue it while others have its devices."""
    folder = make_run(
        request,
        path,
        argv,
        attempt if attempt is not None else _first_device(request.config.installation),
        state="queued",
    )
    try:
        start_or_queue(folder, request.config.installation.workspace)
    except OSError:  # no room for its place in the queue: it must not start later, when nobody expects it
        if folder.read_status().state == "queued":
            shutil.rmtree(folder.path, ignore_errors=True)
        raise
    return folder


def make_run(
    request: StartRequest,
    path: Path,
    argv: Sequence[str],
    attempt: Attempt | None = None,
    state: WrittenState = "starting",
) -> RunStore:
    """Make the folder of a run that `argv` trains. `attempt`: what is known of its first start."""
    text = request.config.document.text if request.text is None else request.text
    settled = settled_for_all(attempt)
    new = NewRun(
        config={**request.config.values, **settled},
        config_text=with_values(text, settled) if settled else text,
        argv=argv,
        actor=request.options.actor,
        data_sha256=request.config.data_sha256,
        name=request.name,
        state=state,
        attempt=attempt,
    )
    return create(path, new, request.config.installation)


def _first_device(installation: Installation) -> Attempt:
    """For a run that is planned only when it has started: its model goes to the first GPU here, the one that it sees."""
    gpus = visible_gpus(read_gpus().gpus, installation.environment)[0][:1]
    return Attempt(device_uuids=[gpu.uuid for gpu in gpus], environment=environment_for(gpus) if gpus else {})
