"""The supervisor of a run that a cluster trains: submits its job or goes on with it, says why it waits, sees its stop through."""

from __future__ import annotations

import logging
import platform
import time
from collections.abc import Callable
from typing import TypeVar

from lora_backend.clusters.cluster import Cluster, ClusterError, ClusterSilentError, Look, Task
from lora_backend.clusters.cluster_documents import ClusterJob, ClusterRequest
from lora_backend.clusters.cluster_request import cluster_of
from lora_backend.errors import RunError
from lora_backend.formats import when
from lora_backend.i18n import N_, Message
from lora_backend.installation import SUPERVISED, Installation, child_environment
from lora_backend.runs.processes.job_end import JobEnd, write_job_end
from lora_backend.runs.processes.leftovers import RUN_MARK
from lora_backend.runs.processes.run_end import say_in_log, write_end, write_failure
from lora_backend.runs.processes.trainer_command import command_of, launched_here
from lora_backend.runs.record.failures import failure
from lora_backend.runs.record.run_store import RunStore

logger = logging.getLogger(__name__)
T = TypeVar("T")
TICK_S = 0.25
"""How often the folder is looked at."""
ASK_FIRST_S, ASK_AT_MOST_S = 0.5, 10.0
"""How often the cluster is asked: soon after something has changed, then more and more seldom."""
AGAIN_AFTER_S = 30.0
"""Between two cancels of a job that goes on: what Slurm itself gives processes after SIGTERM (`KillWait`)."""
UNKNOWN_FOR_S = 60.0
"""A job must be unknown for so long before it counts as gone: accounting comes late, and a dashboard restarts."""
GONE_AFTER_S = 5.0
"""A folder must be away for so long before its job is cancelled; a network drive may come back."""
KEPT = ("FLIGHTDECK_", "HF_")
"""Beginnings of variables that the job gets from here; none that holds a token, for clusters show them to others."""


def see_to_job(
    folder: RunStore, installation: Installation, request: ClusterRequest, num_ends: int, *, adopt: bool
) -> None:
    """Have the run trained by a cluster and write how that ended; `adopt`: it was submitted by a supervisor that died."""
    if not launched_here(folder, installation):  # a copied folder decides on no job of anybody's
        write_end(folder, None, num_ends)
        return
    try:
        cluster = cluster_of(request, installation.environment)
        job = folder.read_status().attempt.job if adopt else None
        if job is None or job.id is None:
            job = _found(folder, cluster, job) if adopt else _submitted(folder, installation, cluster, request)
    except (ClusterError, RunError, OSError) as error:
        reason = error.message if isinstance(error, ClusterError | RunError) else str(error)
        write_failure(folder, failure("job_refused", reason=reason), None, num_ends)
        return
    if job is None:
        write_end(folder, None, num_ends)
        return
    logger.info("following job %s of %s", job.id, cluster.name)
    write_job_end(folder, cluster, _Watch(folder, cluster, job).until_over(), num_ends)


def _submitted(folder: RunStore, installation: Installation, cluster: Cluster, request: ClusterRequest) -> ClusterJob:
    name = f"flightdeck-{folder.id}-{folder.newest_number()}"
    job = ClusterJob(kind=request.kind, name=name, address=request.address, watcher=platform.node())
    _write(folder, job)  # before it is there: should this process die in between, it is found by its name
    environment = {
        SUPERVISED: "1",
        RUN_MARK: str(folder.path),
        "PYTHONUNBUFFERED": "1",
        **{
            key: value
            for key, value in child_environment().items()
            if key == "PYTHONPATH" or (key.startswith(KEPT) and "TOKEN" not in key)
        },
    }
    job_id = cluster.submit(
        Task(name, folder.newest_number(), folder.path, command_of(folder, installation), environment)
    )
    say_in_log(folder, "submitted to %s as job %s", cluster.name, job_id, level=logging.INFO)
    return _write(folder, job.but(id=job_id))


def _found(folder: RunStore, cluster: Cluster, job: ClusterJob | None) -> ClusterJob | None:
    """The job that a supervisor submitted a moment before it died; None where it came to none."""
    if job is None:
        return None
    job_id = _patiently(lambda: cluster.find(job.name))
    return _write(folder, job.but(id=job_id, watcher=platform.node())) if job_id else None


def _patiently(ask: Callable[[], T]) -> T:
    """Ask until the cluster answers."""
    while True:
        try:
            return ask()
        except ClusterSilentError as error:
            logger.warning("%s", error)
            time.sleep(ASK_AT_MOST_S)


def _write(folder: RunStore, job: ClusterJob) -> ClusterJob:
    with folder.changing_status() as status:
        status.attempt.job = job
    return job


class _Watch:
    """A job, until the cluster has no process of it any more. However often it was cancelled, it ends when it is gone."""

    def __init__(self, folder: RunStore, cluster: Cluster, job: ClusterJob) -> None:
        self.folder, self.cluster, self.job = folder, cluster, job
        self.looked: Look | None = None
        self.was_cancelled_pending = job.num_cancels > 0 and job.host is None
        self.was_forced = job.num_cancels > 0 and job.host is not None
        self.deadline_s = 0.0
        self._said = folder.read_status().attempt.detail if folder.read_status().attempt.stage is None else None
        """What stands in the run's status from here; of one that died before, all that was said without a stage."""
        self._has_said = False
        self._stop_seen: float | None = None
        self._cancelled_at: float | None = None
        self._missing_since: float | None = None
        self._unknown_since: float | None = None
        self._ask_every_s, self._ask_at = ASK_FIRST_S, 0.0

    def until_over(self) -> JobEnd:
        """Wait, and do what a stop asks for."""
        while not self.job.is_over:
            now = time.monotonic()
            if not self._has_said and self._outcome():  # the job is about to be over
                self._has_said, self._ask_every_s, self._ask_at = True, ASK_FIRST_S, now
            try:
                if now >= self._ask_at and self._ask(now):
                    break
                self._see_to_stop(time.monotonic())
            except ClusterError as error:  # it goes on, whatever it is asked
                self._ask_at = now + ASK_AT_MOST_S
                if error.message != self._said:
                    logger.warning("%s", error)
                    self._keep(self.job, error.message)
            time.sleep(TICK_S)
        return JobEnd(self.job, self.was_cancelled_pending, self.was_forced, self.deadline_s)

    def _ask(self, now: float) -> bool:
        """Look at the job; whether it is over."""
        before = (self.job.state, self.job.reason)
        looked = self.cluster.look(self.job.id or "")
        if looked is None:
            self._unknown_since = now if self._unknown_since is None else self._unknown_since
            self._ask_at = now + ASK_FIRST_S * 4
            is_over = now - self._unknown_since >= UNKNOWN_FOR_S or bool(self._outcome())
            if is_over:
                self._keep(self.job.but(state=None, is_over=True), None)
            return is_over
        self._unknown_since, self.looked = None, looked
        has_changed = before != (looked.state, looked.reason)
        self._ask_every_s = ASK_FIRST_S if has_changed else min(self._ask_every_s * 1.5, ASK_AT_MOST_S)
        self._ask_at = now + self._ask_every_s
        since = self.folder.clock() if looked.state != self.job.state else self.job.since
        changes = {
            "state": looked.state,
            "reason": looked.reason,
            "since": since,
            "host": looked.host or self.job.host,
            "exit_code": looked.exit_code,
            "is_over": looked.phase == "over",
        }
        detail = self._waits(looked, since) if looked.phase == "pending" else self._follows_a_stop()
        if detail != self._said or any(getattr(self.job, name) != value for name, value in changes.items()):
            self._keep(self.job.but(**changes), detail)
        return looked.phase == "over"

    def _waits(self, looked: Look, since: float | None) -> Message:
        if self.job.num_cancels and self.cluster.cancels_late:
            return self.cluster.cancels_late
        reason = looked.reason if looked.reason and looked.reason != "None" else "–"
        values = {
            "cluster": self.cluster.name,
            "id": self.job.id,
            "state": looked.state,
            "since": when(since or self.folder.clock(), "%Y-%m-%d %H:%M"),
            "reason": reason.rstrip("."),
        }
        if looked.meaning is None:
            return Message(N_("{cluster} job {id} has been {state} since {since}: {reason}."), values)
        return Message(
            N_("{cluster} job {id} has been {state} since {since}: {reason} ({meaning})."),
            {**values, "meaning": looked.meaning},
        )

    def _see_to_stop(self, now: float) -> None:
        """A stop is the trainer's to do, with a checkpoint; what does not end within its deadline is cancelled, again
        and again, until it is gone. What waits still has nothing to save."""
        request = self.folder.read_stop_request()
        is_pending = False
        if not self.folder.path.exists():
            self._missing_since = now if self._missing_since is None else self._missing_since
            if now - self._missing_since < GONE_AFTER_S:
                return
        elif request is None:
            self._missing_since = None
            return
        elif self._stop_seen is None:  # what was seen before may be old: the job may have started
            self._stop_seen, self._ask_every_s, self._ask_at, self.looked = now, ASK_FIRST_S, now, None
            return
        elif self.looked is None:
            return
        else:
            is_pending = self.looked.phase == "pending" and self.folder.read_status().attempt.trainer is None
            if not is_pending and now - self._stop_seen < request.deadline_s:
                return
            self.deadline_s = request.deadline_s
        if self._cancelled_at is None or now - self._cancelled_at >= AGAIN_AFTER_S:
            self._cancel(now, is_pending=is_pending)

    def _cancel(self, now: float, *, is_pending: bool) -> None:
        job, num = self.job, self.job.num_cancels
        is_again = self._cancelled_at is not None
        self._cancelled_at = now
        self.was_cancelled_pending = self.was_cancelled_pending or (is_pending and self.job.host is None)
        self.was_forced = self.was_forced or not is_pending
        if is_again:
            say_in_log(self.folder, "job %s is still %s after %s cancels: cancelled again", job.id, job.state, num)
            self.cluster.kill(job.id or "")
        else:
            say_in_log(self.folder, "job %s is %s: cancelled", job.id, job.state)
            self.cluster.cancel(job.id or "")
        self._ask_every_s, self._ask_at = ASK_FIRST_S, now + ASK_FIRST_S
        self.job = job.but(num_cancels=num + 1)
        late = self.cluster.cancels_late if is_pending else None
        self._keep(self.job, late or self._follows_a_stop() or self._said)

    def _follows_a_stop(self) -> Message | None:
        """What there is to say of a job that was cancelled in vain."""
        job = self.job
        if job.num_cancels < 2 or job.is_over:
            return None
        values = {"id": job.id, "state": job.state, "cluster": self.cluster.name, "num": job.num_cancels}
        said = N_("{cluster} job {id} was cancelled and is still {state} (cancelled {num} times). Flightdeck keeps watching it until it ends.")  # fmt: skip
        return Message(said, values)

    def _outcome(self) -> object:
        attempt = self.folder.read_status().attempt
        return attempt.outcome or attempt.failure

    def _keep(self, job: ClusterJob, detail: Message | None) -> None:
        """Write down how it stands, and what there is to say of it; a sentence that was said before is taken back, unless
        the trainer has said something since."""
        self.job = job
        try:
            with self.folder.changing_status() as status:
                status.attempt.job = job
                if detail is not None or status.attempt.detail == self._said:
                    status.attempt.detail = self._said = detail
        except (OSError, RunError) as error:  # a full disk, a folder that is gone: the job is followed all the same
            logger.warning("what became of job %s cannot be written down: %s", job.id, error)
