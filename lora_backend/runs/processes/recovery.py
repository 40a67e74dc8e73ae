"""Whoever looks at a run sees to it that somebody watches it: a supervisor or a queue that died gets a successor."""

from __future__ import annotations

import logging
import os
import platform
from pathlib import Path

from lora_backend.errors import RunError
from lora_backend.runs.processes.leases import clear_stale, is_locked
from lora_backend.runs.processes.supervisor import start_supervisor
from lora_backend.runs.processes.waiting import enter, has_entry, leases_folder, start_queue, was_queued_here
from lora_backend.runs.record.process_identity import boot_id, is_alive, reap
from lora_backend.runs.record.run_store import RunStore, list_runs, open_run
from lora_backend.runs.record.states import RunState

logger = logging.getLogger(__name__)


def recover(run: RunStore) -> RunState:
    """The run's state; where its supervisor has died, a successor is on its way that adopts the trainer or writes the end.

    Costs a few small reads for a run that is well. What cannot be written to is only looked at.
    """
    reap()
    if not run.exit_json.exists() and os.access(run.path, os.W_OK):
        try:
            _recover(run)
        except (OSError, RunError) as error:  # no room, deleted under our hands, or of a newer version
            logger.warning("run %s could not be recovered: %s", run.id, error)
    return run.state()


def recover_all(root: Path) -> list[RunStore]:
    """All runs below `root`, the newest first, each recovered."""
    clear_stale(leases_folder(root.parent))
    runs = list_runs(root)
    for run in runs:
        if not run.exit_json.exists():  # most have ended, and of those nothing has to be read
            recover(run)
    return runs


def open_recovered(root: Path, run_id: str) -> RunStore:
    """`open_run`, and recovered."""
    run = open_run(root, run_id)
    recover(run)
    return run


def _recover(run: RunStore) -> None:
    run.read_record()
    num_ends, status = (
        run.num_ends(),
        run.read_status(),
    )  # in this order: a start that comes meanwhile is not taken for this
    if status.state == "queued":
        workspace = run.workspace
        if not was_queued_here(run, workspace):
            return
        if not has_entry(run, workspace):
            enter(run, workspace)
        start_queue(workspace)
        return
    supervisor = status.attempt.supervisor
    job = status.attempt.job
    is_ours = supervisor is not None and (supervisor.boot_id == boot_id() or (job and job.watcher == platform.node()))
    if supervisor is None or not is_ours or is_alive(supervisor):
        return  # none was meant to be, another machine's or another boot's, or all is well; a job outlives a boot
    if not is_locked(run.supervisor_lock):  # else a successor is there already
        logger.info("the supervisor of run %s has died: starting a successor", run.id)
        start_supervisor(run, adopt=True, num_ends=num_ends)
