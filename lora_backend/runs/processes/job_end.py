"""How a run ended that a cluster trained: by the trainer's own word where it left one, else by the cluster's."""

from __future__ import annotations

import time
from dataclasses import dataclass

from lora_backend.clusters.cluster import Cluster, ClusterError
from lora_backend.clusters.cluster_documents import ClusterJob
from lora_backend.clusters.job_line import NOT_SEEN, NOT_WANTED
from lora_backend.i18n import N_, Message
from lora_backend.runs.processes.leftovers import end_leftovers
from lora_backend.runs.processes.run_end import append_to_log, write_end, write_exit
from lora_backend.runs.record.documents import Exit
from lora_backend.runs.record.failures import Failure, cause_in_log, failure
from lora_backend.runs.record.run_store import RunStore

SAID_WITHIN_S = 30.0
"""How long after a job's end its trainer's last words may come: a network file system shows them late."""
NO_OUTPUT = (53, -53)
"""Exit code, or signal, of a Slurm job whose output file could not be opened."""
GIVEN_UP = "failed to start within"
"""In Ray's words of a job that it has given up."""
WITHOUT_A_WORD = {
    "OUT_OF_MEMORY": "job_out_of_memory",
    "TIMEOUT": "job_timeout",
    "DEADLINE": "job_timeout",
    "PREEMPTED": "job_preempted",
    "NODE_FAIL": "job_machine",
    "BOOT_FAIL": "job_machine",
    "CANCELLED": "job_cancelled",
    "STOPPED": "job_cancelled",
}
"""The cluster's word → cause."""


@dataclass(frozen=True)
class JobEnd:
    """A job that is over."""

    job: ClusterJob
    was_cancelled_pending: bool
    """A stop came before it had started."""
    was_forced: bool
    """A stop was not obeyed in time, so it was cancelled."""
    deadline_s: float


def write_job_end(run: RunStore, cluster: Cluster, ended: JobEnd, num_ends: int) -> None:
    """`exit.json` of a run whose job is over."""
    if run.num_ends() != num_ends:
        return
    end_leftovers(run)
    _keep_words(run, cluster, ended)
    has_begun = run.read_status().attempt.trainer is not None
    if (ended.was_cancelled_pending or ended.job.exit_code == NOT_WANTED) and not has_begun:
        said = Message(N_("The job was cancelled before it started, so nothing was trained."))
        request = run.read_stop_request()
        actor = request.actor if request else None
        write_exit(run, Exit.of("stopped", cause="cancelled", message=said, actor=actor), num_ends)
        return
    code, state = ended.job.exit_code, ended.job.state
    if has_begun and (state not in WITHOUT_A_WORD or run.stop_request.exists()):
        _wait_for_words(run)
    said_failure = run.read_status().attempt.failure
    found = None if said_failure else _failure(run, cluster, ended, has_begun=has_begun)
    write_end(run, code, num_ends, forced=found)


def _failure(run: RunStore, cluster: Cluster, ended: JobEnd, *, has_begun: bool) -> Failure:
    job = ended.job
    host, folder = job.host or "–", str(run.path)
    if ended.was_forced:
        values = {"deadline_s": round(ended.deadline_s), "id": job.id}
        said = N_(
            "A stop was requested, but the trainer did not end within {deadline_s} s, so its job {id} was cancelled."
        )
        return Failure("stop_deadline", Message(said, values), failure("stop_deadline", deadline_s=0, signal="").remedy)
    if job.num_cancels:
        said = N_("The job {id} was cancelled while it was starting.")
        return Failure(
            "stop_deadline", Message(said, {"id": job.id}), failure("stop_deadline", deadline_s=0, signal="").remedy
        )
    if not job.state:
        return failure("job_unknown", cluster=cluster.name, id=job.id)
    has_no_output = job.exit_code in NO_OUTPUT or "RaisedSignal:53" in (job.reason or "")
    if not has_begun and (job.exit_code == NOT_SEEN or has_no_output):
        return failure("job_blind", host=host, folder=folder)
    if cause := WITHOUT_A_WORD.get(job.state):
        return failure(cause, cluster=cluster.name, host=host, id=job.id)
    if not has_begun and GIVEN_UP in (job.reason or ""):
        return failure("job_given_up", cluster=cluster.name, id=job.id)
    if logged := cause_in_log(run.train_log):
        return failure(logged)
    code = "" if job.exit_code is None else f" ({job.exit_code})"
    return failure("job_failed", cluster=cluster.name, id=job.id, said=f"{job.state}{code}. {job.reason or ''}".strip())


def _wait_for_words(run: RunStore) -> None:
    deadline = time.monotonic() + SAID_WITHIN_S
    while time.monotonic() < deadline:
        attempt = run.read_status().attempt
        if attempt.outcome or attempt.failure:
            return
        time.sleep(0.25)


def _keep_words(run: RunStore, cluster: Cluster, ended: JobEnd) -> None:
    """What the job wrote beside its trainer goes into the run's log: why it could not start, and who ended it."""
    try:
        words = cluster.words(ended.job.id or "", run.path)
    except (ClusterError, OSError):
        return
    if words:
        append_to_log(run, f"{cluster.name} job {ended.job.id} ({ended.job.state}) said:\n{words}\n")
