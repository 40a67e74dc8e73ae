"""Why a run failed: each cause with one sentence and what to do, and how it is told from what a dead trainer left."""

from __future__ import annotations

import re
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lora_backend.bounded import open_regular
from lora_backend.i18n import N_, Message
from lora_backend.runs.record.peer_documents import SaidFailure

NUM_LOG_LINES = 20
"""Kept with the end of a run, so that it explains itself when its log is gone."""
CRASHES = frozenset(
    {signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGABRT, signal.SIGTRAP, signal.SIGSYS}
)
"""Signals that a process brings on itself; any other came from outside."""
PEER_LOST = "peer_lost"
"""Cause of a process that failed because another one was gone: it is told only where nobody knows more."""
MACHINE_LOST = "machine_lost"
"""The same of a machine whose own word nobody has."""
CAUSES: dict[str, tuple[str, str | None]] = {
    "gpu_out_of_memory": (
        N_("The GPU ran out of memory."),
        N_("Lower `batch_size` or `max_length`, or turn on `gradient_checkpointing`; the Plan page says what each saves."),
    ),
    "host_out_of_memory": (
        N_("The machine ran out of memory."),
        N_("Lower `batch_size` or `max_length`, close other programs, or add memory or swap."),
    ),
    "out_of_memory": (
        N_("The run ran out of memory."),
        N_("Lower `batch_size` or `max_length`, or turn on `gradient_checkpointing`; the Plan page says what each saves."),
    ),
    "oom_killer": (
        N_("The kernel ended the trainer because the machine ran out of memory."),
        N_("Lower `batch_size` or `max_length`, close other programs, or add memory or swap."),
    ),
    "disk_full": (
        N_("The disk is full."),
        N_("Free some disk space and resume: the last complete checkpoint is kept."),
    ),
    "killed": (
        N_("The trainer was ended from outside by {signal}. The last lines of the log may say why."),
        N_("Fix what ended it, then resume. SIGKILL often means that the system ran out of memory; check `dmesg`."),
    ),
    "fault": (
        N_("The trainer crashed with {signal}."),
        N_("A library or a driver crashed. Check the last lines of the log, then resume."),
    ),
    "crashed": (
        N_("The trainer ended with code {code} without saying why. See the log."),
        None,
    ),
    "ended_unseen": (
        N_("The trainer ended while no supervisor was watching."),
        N_("The last lines of the log may say why. The run can be resumed."),
    ),
    "stop_deadline": (
        N_("A stop was requested, but the trainer did not end within {deadline_s} s and was ended by {signal}."),
        N_("Everything after the last checkpoint is lost. The run can be resumed from it."),
    ),
    "stopped_now": (
        N_("The run was stopped at once by a second signal ({signal})."),
        N_("Everything after the last checkpoint is lost. The run can be resumed from it."),
    ),
    "folder_gone": (
        N_("The run's folder no longer exists, so its trainer was ended."),
        None,
    ),
    "cancelled": (
        N_("The run was removed from the queue before it started."),
        None,
    ),
    "peer_lost": (
        N_("Process {rank} lost the connection to the other processes."),
        N_("Their logs may say why. The run can be resumed."),
    ),
    "machine_lost": (
        N_("The connection to machine {number} ({place}) was lost: {reason}."),
        N_("Check whether that machine and the network between them are up, and what its own log says. The run can be resumed."),
    ),
    "start": (
        N_("The trainer could not be started. {reason}"),
        None,
    ),
    "job_out_of_memory": (
        N_("{cluster} ended the job because it used more memory than it was given."),
        N_("Resume it with more memory for the job, or lower `batch_size` or `max_length`."),
    ),
    "job_timeout": (
        N_("The job reached its time limit, so {cluster} ended it."),
        N_("Resume it with more time for the job: it continues from the last complete checkpoint."),
    ),
    "job_preempted": (
        N_("{cluster} gave the job's machine to another job."),
        N_("The run can be resumed from its last complete checkpoint."),
    ),
    "job_machine": (
        N_("The machine {host} failed, and the job with it."),
        N_("The run can be resumed from its last complete checkpoint."),
    ),
    "job_cancelled": (
        N_("The job {id} was cancelled, but not from here."),
        N_("The run can be resumed from its last complete checkpoint."),
    ),
    "job_blind": (
        N_("The machine {host} cannot see {folder}."),
        N_("Put the workspace on a file system that all machines of the cluster share, under the same path."),
    ),
    "job_given_up": (
        N_("{cluster} gave up on the job {id} because no machine had the resources it asks for."),
        N_("Resume it with fewer resources for the job, or have Ray wait longer: set RAY_JOB_START_TIMEOUT_SECONDS on its head node."),
    ),
    "job_unknown": (
        N_("{cluster} no longer knows the job {id}, and nothing recorded how it ended."),
        N_("The run can be resumed from its last complete checkpoint."),
    ),
    "job_failed": (
        N_("The trainer did not say why it ended. {cluster} says of the job {id}: {said}"),
        N_("The last lines of the log may say more. The run can be resumed."),
    ),
    "job_refused": (
        N_("The job could not be submitted. {reason}"),
        None,
    ),
    "reboot": (
        N_("This machine was restarted during the run, or the run belongs to another machine."),
        N_("The run can be resumed from its last complete checkpoint."),
    ),
    "lost": (
        N_("No process of this run is alive, and none recorded how it ended."),
        N_("The run can be resumed from its last complete checkpoint."),
    ),
}  # fmt: skip
"""Code → sentence and remedy. Others (`data`, `config`, `nan_loss`, `code` …) bring the sentence of the error itself."""
TOLD_BY_THE_LOG = frozenset({"killed", "fault", "crashed", "ended_unseen", "code", PEER_LOST, MACHINE_LOST})
"""Causes of which only the log says more; of the others its end is a traceback that repeats the sentence."""
REMEDIES = {
    "data": N_("Correct the data set and start a new run, or resume if only its path was wrong."),
    "data_changed": N_(
        "Put the file back as it was, or resume with the changed data (`runs resume ID --accept-changed-data`)."
    ),
    "code": N_("The last lines of the log say where. If the config is not the cause, resume."),
}
_IN_THE_LOG = (
    (re.compile(rb"(CUDA|HIP) out of memory|torch\.OutOfMemoryError|CUDA error: out of memory"), "gpu_out_of_memory"),
    (re.compile(rb"No space left on device|Disk quota exceeded"), "disk_full"),
    (re.compile(rb"MemoryError\b|can't allocate memory|Cannot allocate memory|std::bad_alloc"), "host_out_of_memory"),
)


@dataclass(frozen=True)
class Failure:
    """A cause as a code, what happened, and what to do."""

    cause: str
    message: Message
    remedy: Message | None = None


def failure(cause: str, /, **values: Any) -> Failure:
    """The failure that the table knows as `cause`."""
    sentence, remedy = CAUSES[cause]
    return Failure(cause, Message(sentence, values), Message(remedy) if remedy else None)


def failure_of(said: SaidFailure | None, returncode: int | None, log: Path, *, oom_killed: bool = False) -> Failure:
    """Why a trainer failed, from what it `said` in `status.json`, its return code (negative: a signal; None: nobody saw
    it) and the end of its log. `oom_killed`: the kernel ended a process for want of memory at that moment.
    """
    if said is not None:
        return _as_said(said.cause, said.message, log)
    if returncode is not None and returncode < 0:
        name = signal_name(-returncode)
        if -returncode == signal.SIGKILL and oom_killed:
            return failure("oom_killer")
        if -returncode in CRASHES:
            return failure(cause_in_log(log) or "fault", signal=name)
        return failure("killed", signal=name)
    logged = cause_in_log(log)
    if logged:
        return failure(logged)
    if returncode is None and oom_killed:  # an adopted trainer's code nobody gets, but the kernel counts
        return failure("oom_killer")
    return failure("ended_unseen") if returncode is None else failure("crashed", code=returncode)


def _as_said(cause: str, message: Message, log: Path) -> Failure:
    if cause == "out_of_memory":  # of a trainer that does not tell the two apart
        cause = cause_in_log(log) or cause
    remedy = REMEDIES.get(cause) or (CAUSES[cause][1] if cause in CAUSES else None)
    return Failure(cause, message, Message(remedy) if remedy else None)


def cause_in_log(log: Path) -> str | None:
    """The cause that a log's end names: the last word counts, for an error brings others before it ends a process."""
    tail = _end_of(log)
    found = [(match.start(), cause) for pattern, cause in _IN_THE_LOG for match in pattern.finditer(tail)]
    return max(found)[1] if found else None


def last_log_lines(log: Path) -> list[str]:
    """The log's last lines, each cut to a readable length."""
    lines = _end_of(log).decode("utf-8", errors="replace").splitlines()[-NUM_LOG_LINES:]
    return [line[:500] for line in lines]


def _end_of(log: Path, max_bytes: int = 16_000) -> bytes:
    try:
        with open_regular(log, follow=False) as file:
            size_bytes = file.seek(0, 2)
            file.seek(max(0, size_bytes - max_bytes))
            return file.read(max_bytes)
    except OSError:
        return b""


def signal_name(number: int) -> str:
    """SIGTERM for 15; `signal 40` for one without a name."""
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal has none
        return f"signal {number}"


def oom_kills() -> int:
    """How often the kernel has ended a process for want of memory since boot; 0 where it does not say."""
    try:
        counters = Path("/proc/vmstat").read_text()
    except OSError:
        return 0
    found = re.search(r"^oom_kill (\d+)$", counters, re.MULTILINE)
    return int(found[1]) if found else 0
