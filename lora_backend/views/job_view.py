"""The job of a run that a cluster trains, in a sentence."""

from __future__ import annotations

from typing import Any

from lora_backend.clusters.cluster_documents import ClusterRequest
from lora_backend.clusters.cluster_request import NAMES
from lora_backend.i18n import N_, Message
from lora_backend.runs.record.run_store import RunStore


def job_message(run: RunStore) -> Message | None:
    """Which job it is, how the cluster calls its state, and where it runs; None for a run that trains on this machine."""
    asked, job = run.read_attempt().cluster, run.read_status().attempt.job
    if asked is None:
        return None
    name = NAMES[asked.kind]
    if job is None or job.id is None:
        return Message(N_("On {cluster}: its job is being submitted."), {"cluster": name})
    values = {"cluster": name, "id": job.id, "state": job.state or "–", "host": job.host}
    if job.host is None:
        return Message(N_("{cluster} job {id}: {state}."), values)
    return Message(N_("{cluster} job {id} on {host}: {state}."), values)


def job_document(run: RunStore) -> dict[str, Any] | None:
    """The same for a script, with what was asked for."""
    asked, job = run.read_attempt().cluster, run.read_status().attempt.job
    return None if asked is None else {"asked": asked.to_json(), "job": job.to_json() if job else None}


def asked_text(asked: ClusterRequest) -> str:
    """What a job asks for, as it is written at the command line."""
    return " ".join(f"{name}={value}" for name, value in sorted(asked.parameters.items()))
