"""Start a job: a run that trains nothing. It has folder, log, progress, stop and end as every run, and survives the browser."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from lora_backend.config.config_writing import dump_yaml
from lora_backend.errors import RunError
from lora_backend.hardware.inventory import read_gpus
from lora_backend.hardware.visible import environment_for, visible_gpus
from lora_backend.i18n import N_
from lora_backend.installation import Installation
from lora_backend.runs.processes.queue import start_or_queue
from lora_backend.runs.processes.trainer_command import MODULE, launched_here
from lora_backend.runs.record.attempts import Attempt
from lora_backend.runs.record.documents import WrittenState
from lora_backend.runs.record.job_documents import EvaluateRequest, JobRequest, kind_of, request_of
from lora_backend.runs.record.run_store import RunStore, new_run_id
from lora_backend.runs.record.transitions import NewRun, create


def start_job(request: JobRequest, installation: Installation, *, name: str, actor: str | None = None) -> RunStore:
    """Make the job's folder and start it in a process of its own. An evaluation waits for the first GPU, or the CPU, like
    a training; all others lease nothing and start at once. `name`: what lists call it."""
    path = installation.runs / new_run_id(installation.clock)
    argv = [sys.executable, *MODULE, "job", str(path)]
    job = make_job(request, path, argv, installation, name=name, actor=actor, state="queued")
    start_or_queue(job, installation.workspace)
    return job


def restart_job(job: RunStore, installation: Installation, *, actor: str | None = None) -> RunStore:
    """Do again what a job that has ended was asked for, as another job; a download goes on with what it has.

    Raises `RunError` where it has not ended, or where this installation did not start it: its paths were bound elsewhere.
    """
    record = job.read_record()
    if not job.state().has_ended:
        raise RunError(N_("Run {id} has not ended, so it cannot be started again."), id=job.id)
    if not launched_here(job, installation):
        raise RunError(N_("Run {id} was not started on this machine. Start a new one here."), id=job.id)
    try:
        request = request_of(record.kind, record.config)
    except ValueError as error:
        raise RunError(N_("The run.json of run {id} does not say what to do. Start a new one."), id=job.id) from error
    return start_job(request, installation, name=record.name or record.kind, actor=actor)


def make_job(
    request: JobRequest,
    path: Path,
    argv: Sequence[str],
    installation: Installation,
    *,
    name: str,
    actor: str | None = None,
    state: WrittenState = "starting",
) -> RunStore:
    """Make the folder of a job that the process of `argv` does."""
    config = request.to_json()
    new = NewRun(
        config=config,
        config_text=dump_yaml(config),
        argv=argv,
        kind=kind_of(request),
        actor=actor,
        name=name,
        state=state,
        attempt=_devices_of(request, installation),
    )
    return create(path, new, installation)


def _devices_of(request: JobRequest, installation: Installation) -> Attempt:
    if not isinstance(request, EvaluateRequest):
        return Attempt(shares=True)
    gpus = visible_gpus(read_gpus().gpus, installation.environment)[0][:1]
    return Attempt(device_uuids=[gpu.uuid for gpu in gpus], environment=environment_for(gpus) if gpus else {})
