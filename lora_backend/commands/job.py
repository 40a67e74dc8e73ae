"""`job`: the process that does a job which was made, started by its supervisor; and the same for a command in the foreground."""

from __future__ import annotations

import argparse
import os
import sys
from importlib import import_module
from pathlib import Path

from lora_backend.commands.shown_progress import shown_progress
from lora_backend.commands.words import GOOD, NO
from lora_backend.errors import FlightdeckError
from lora_backend.installation import Installation, this_installation
from lora_backend.launching.jobs import make_job
from lora_backend.os_errors import in_words
from lora_backend.runs.processes.job_progress import JobProgress, JobStoppedError
from lora_backend.runs.processes.run_session import run_session
from lora_backend.runs.processes.signals import StoppedNowError, StopSignals
from lora_backend.runs.processes.trainer_command import environment_of
from lora_backend.runs.record.documents import Kind
from lora_backend.runs.record.job_documents import JobRequest, request_of
from lora_backend.runs.record.run_store import RunStore, new_run_id
from lora_backend.terminal import show

BODIES: dict[Kind, tuple[str, str]] = {
    "evaluate": ("lora_backend.evaluating.evaluate_job", "evaluate_in"),
    "export": ("lora_backend.shipping.export_job", "ship_in"),
    "download": ("lora_backend.hub.download_job", "download_in"),
}
"""Kind → where its work is: `act(request, folder, installation, progress)`. It writes `result.json`, and is whole or absent."""


def job(arguments: argparse.Namespace) -> int:
    """Run the command."""
    installation = this_installation().around(arguments.folder)
    return do_job(RunStore(arguments.folder.resolve(), installation.clock), installation)


def in_foreground(request: JobRequest, installation: Installation, *, name: str) -> tuple[RunStore, int]:
    """Make a job and be its process; returns its folder and the exit code."""
    path: Path = installation.runs / new_run_id(installation.clock)
    folder = make_job(request, path, sys.orig_argv, installation, name=name)
    with shown_progress(folder):
        return folder, do_job(folder, installation)


def do_job(folder: RunStore, installation: Installation) -> int:
    """Do a job that is made, in this process. What it failed with stands in its folder, and in one sentence on stderr."""
    record = folder.read_record()
    request = request_of(record.kind, record.config)
    signals = StopSignals(folder, installation)
    try:
        with signals:
            os.environ.update(environment_of(folder))  # before torch looks
            with run_session(folder, installation):
                module, act = BODIES[record.kind]
                try:
                    getattr(import_module(module), act)(request, folder, installation, JobProgress(folder))
                except JobStoppedError:
                    with folder.changing_status() as status:
                        status.attempt.outcome = "stopped"
    except (Exception, StoppedNowError) as error:  # the log has the traceback, the run's state the sentence
        said = folder.state().message or (
            in_words(error, installation.workspace) if isinstance(error, OSError) else error
        )
        show(said, to_stderr=True)
        if not isinstance(error, FlightdeckError | StoppedNowError):
            show(str(folder.train_log), to_stderr=True)
        return signals.exit_code or NO
    return signals.exit_code or (GOOD if folder.state().state == "finished" else NO)
