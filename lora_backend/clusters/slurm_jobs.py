"""Slurm: submitit writes the job and submits it; how it stands is asked of `squeue` and `sacct`.

Submitit alone asks `sacct`, which knows neither why a job waits nor its exit code, and is absent on many clusters.
"""

from __future__ import annotations

import math
import os
import shutil
import subprocess
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lora_backend.clusters.cluster import ClusterError, ClusterSilentError, Look, Task
from lora_backend.clusters.cluster_documents import Setting
from lora_backend.clusters.job_line import job_line
from lora_backend.clusters.slurm_reasons import meaning_of
from lora_backend.i18n import N_, Message

COMMANDS = ("sbatch", "squeue", "scancel", "srun")
WITHIN_S = 60
"""Slurm's commands themselves give up after 10 s (`MessageTimeout`), and try again a few times."""
FILES = "cluster"
"""Folder in a run's: what submitit hands to the job, and what the job writes beside the trainer."""
SETTINGS = {
    "partition": str, "account": str, "qos": str, "constraint": str, "nodelist": str, "exclude": str, "gres": str,
    "reservation": str, "dependency": str, "comment": str, "mail_type": str, "mail_user": str, "mem_per_cpu": str,
    "mem_per_gpu": str, "gpus_per_node": int, "cpus_per_task": int, "timeout_min": int, "mem_gb": float, "exclusive": bool,
}  # fmt: skip
"""What may be asked of Slurm, by submitit's names, and of what type."""
PENDING = {"PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "RESV_DEL_HOLD", "SPECIAL_EXIT"}
ENDED = {
    "COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "OUT_OF_MEMORY", "NODE_FAIL", "PREEMPTED", "BOOT_FAIL", "DEADLINE",
    "REVOKED",
}  # fmt: skip
"""All others are a job with processes, `COMPLETING` among them."""
WITHOUT_REASON = ("", "None", "NonZeroExitCode")


class Slurm:
    """The cluster whose commands are on the PATH."""

    name = "Slurm"
    cancels_late: Message | None = None

    def __init__(self, parameters: Mapping[str, Setting]) -> None:
        self._parameters = {"gpus_per_node": 1, **parameters}

    def check(self) -> None:
        if find_spec("submitit") is None:
            raise ClusterError(
                N_(
                    "Slurm needs the package submitit, which is not installed. Run: pip install 'lora-flightdeck[slurm]'"
                )
            )
        missing = [name for name in COMMANDS if shutil.which(name) is None]
        if missing:
            raise ClusterError(
                N_(
                    "Slurm's command `{name}` is not on the PATH of this machine. Start it on a login node of the cluster."
                ),
                name=missing[0],
            )

    def submit(self, task: Task) -> str:
        self.check()
        from submitit import SlurmExecutor

        executor = SlurmExecutor(task.folder / FILES)
        executor.update_parameters(**self._of_submitit(task.name))
        return submit_by(executor, task)

    def _of_submitit(self, name: str) -> dict[str, Any]:
        """All that is written into the job's file. Without `timeout_min` the partition's own limit counts, not submitit's
        five minutes; a job that Slurm would start again by itself is not, for a run goes on from a checkpoint."""
        given = dict(self._parameters)
        more: dict[str, Setting] = {"no-requeue": True}
        if reservation := given.pop("reservation", None):
            more["reservation"] = reservation
        if memory := given.pop("mem_gb", None):
            given["mem"] = f"{math.ceil(float(memory) * 1024)}M"
        minutes, cores = given.pop("timeout_min", None), given.get("cpus_per_task")
        # A cluster without GPUs does not know the one word, and Slurm takes no `--exclusive=False`.
        given = {
            key: value for key, value in given.items() if not (key in ("gpus_per_node", "exclusive") and not value)
        }
        return {
            **given, "job_name": name, "time": minutes, "wckey": None, "nodes": 1, "ntasks_per_node": 1, "stderr_to_stdout": True,
            "additional_parameters": more,
            # Since Slurm 22.05 srun does not take it from the job.
            "srun_args": [f"--cpus-per-task={cores}"] if cores else None,
        }  # fmt: skip

    def find(self, name: str) -> str | None:
        found = _answer(["squeue", "--noheader", "--states=all", f"--name={name}", "--format=%i"]) or ""
        ids = [word for word in found.split() if word.isdecimal()]
        return max(ids, key=int, default=None)

    def look(self, job_id: str) -> Look | None:
        if not is_job_id(job_id):
            return None
        line = _answer(["squeue", "--noheader", "--states=all", f"--jobs={job_id}", "--format=%T|%N|%r"])
        state, host, reason = (*(line or "").strip().partition("\n")[0].split("|", 2), "", "")[:3]
        if state and state not in ENDED:
            phase = "pending" if state in PENDING else "running"
            told = None if phase == "running" and reason in WITHOUT_REASON else reason or None
            return Look("pending" if phase == "pending" else "running", state, told, meaning_of(told), host or None)
        return _of_the_books(job_id) or (Look("over", state, _told(reason), None, host or None) if state else None)

    def cancel(self, job_id: str) -> None:
        _order(["scancel", job_id], job_id)

    def kill(self, job_id: str) -> None:
        _order(["scancel", "--signal=KILL", "--full", job_id], job_id)
        _order(["scancel", job_id], job_id)

    def words(self, job_id: str, folder: Path) -> str:
        return words_in(folder, job_id)


def submit_by(executor: Any, task: Task) -> str:
    """Submit a task by one of submitit's executors; returns the job's id.

    Submitit's own process of the job becomes the trainer. A function that waits for the trainer would be a second
    process, hold the signals that are meant for it, and its result is not asked for: the run's folder says all.
    """
    from submitit.core.utils import FailedJobError, FailedSubmissionError

    try:
        job = executor.submit(os.execv, "/bin/sh", ["sh", "-c", job_line(task)])
    except (FailedJobError, FailedSubmissionError) as error:
        lines = [line.removeprefix("sbatch: error: ").strip() for line in str(error).splitlines()]
        said = " ".join(line for line in lines if line)[:500]
        raise ClusterError(
            N_("Slurm refused the job: {said}. Change the job settings, then start it again."), said=said.rstrip(".")
        ) from error
    return str(job.job_id)


def words_in(folder: Path, job_id: str) -> str:
    """What a job of submitit's wrote, without submitit's own lines."""
    if not is_job_id(job_id):
        return ""
    try:
        text = (folder / FILES / f"{job_id}_0_log.out").read_text(errors="replace")[-16_000:]
    except OSError:
        return ""
    return "\n".join(line for line in text.splitlines() if line.strip() and not line.startswith("submitit INFO"))


def is_job_id(job_id: str) -> bool:
    """Whether it is one, and no option of a command."""
    return job_id.isascii() and job_id.isdecimal()


def _of_the_books(job_id: str) -> Look | None:
    """A job that has ended, by the accounting; None where there is none, or does not know it (yet)."""
    if shutil.which("sacct") is None:
        return None
    words = [
        "sacct",
        "--allocations",
        "--noheader",
        "--parsable2",
        f"--jobs={job_id}",
        "--format=State,ExitCode,NodeList",
    ]
    try:
        line = (_answer(words) or "").strip().partition("\n")[0]
    except ClusterError:  # the accounting may be down for itself
        return None
    state, code, host = (*line.split("|", 2), "", "")[:3]
    state, _, by = state.partition(" ")  # `CANCELLED by 1000`
    if state not in ENDED:
        return None
    number, _, signal = code.partition(":")
    exit_code = -int(signal) if signal.isdecimal() and int(signal) else int(number) if number.isdecimal() else None
    return Look("over", state, by or None, None, host if host != "None assigned" else None, exit_code)


def _told(reason: str) -> str | None:
    return None if reason in WITHOUT_REASON else reason


def _answer(words: list[str]) -> str | None:
    """What a command prints; None where Slurm says that it knows no such job."""
    try:
        done = subprocess.run(words, capture_output=True, text=True, errors="replace", timeout=WITHIN_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ClusterSilentError(N_("Slurm does not answer: {said}"), said=str(error)[:300]) from error
    if done.returncode == 0:
        return done.stdout
    if "Invalid job id" in done.stderr:
        return None
    raise ClusterSilentError(N_("Slurm does not answer: {said}"), said=" ".join(done.stderr.split())[:300])


def _order(words: list[str], job_id: str) -> None:
    if is_job_id(job_id):
        _answer(words)
