"""Start a run on a cluster: what is known here is checked here, and the rest on the machine that the cluster gives it."""

from __future__ import annotations

from dataclasses import replace

from lora_backend.clusters.cluster import ClusterError
from lora_backend.clusters.cluster_documents import ClusterRequest
from lora_backend.clusters.cluster_request import cluster_of
from lora_backend.i18n import N_
from lora_backend.installation import Installation
from lora_backend.launching.launch import start_run
from lora_backend.launching.requests import StartOptions, StartRequest
from lora_backend.preflight.data_asked import Count
from lora_backend.preflight.resolve import ResolvedConfig
from lora_backend.preflight.startable import Judged, judge, refuse_rows
from lora_backend.runs.processes.trainer_command import launched_here, trainer_command
from lora_backend.runs.record.attempts import Attempt
from lora_backend.runs.record.run_store import RunStore, new_run_id

OF_THIS_MACHINE = frozenset(
    {
        "no_such_device", "fp16_without_gpu", "kernel_without_gpu", "kernel_on_old_gpu",
        "more_processes_than_gpus", "too_few_gpus", "processes_on_cpu",
    }
)  # fmt: skip
"""Blockers by the GPUs that are here. The trainer looks at them again where it is."""


def launch_on_cluster(request: StartRequest, asked: ClusterRequest, count: Count | None = None) -> RunStore:
    """Submit a new run to a cluster; it is planned when its job has started.

    Raises `ConfigError` and `CannotStartError` as a launch does, and `ClusterError` where the cluster cannot be used;
    then nothing is made.
    """
    resolved = request.config
    judged = judged_for(resolved, asked)
    judged.refuse()
    refuse_rows(judged, count)
    attempt = attempt_on(asked, resolved, request.options)
    path = resolved.installation.runs / new_run_id(resolved.installation.clock)
    return start_run(request, path, trainer_command(path), attempt)


def judged_for(resolved: ResolvedConfig, cluster: ClusterRequest | None) -> Judged:
    """What stands in the way of a start there; None: here."""
    judged = judge(resolved)
    if cluster is None:
        return judged
    return replace(judged, blockers=tuple(one for one in judged.blockers if one.code not in OF_THIS_MACHINE))


def attempt_on(asked: ClusterRequest, resolved: ResolvedConfig, options: StartOptions) -> Attempt:
    """What is known of a start on a cluster. Raises `ClusterError` where it cannot be submitted from here."""
    if resolved.config.num_nodes > 1:
        raise ClusterError(N_("A job trains on one machine. Set `num_nodes` to 1."))
    cluster_of(asked, resolved.installation.environment).check()
    return Attempt(cluster=asked, anyway=options.accepts == "over")


def cluster_before(run: RunStore, installation: Installation) -> ClusterRequest | None:
    """Where the newest start of a run was trained, if not here; what a copied folder says of that is not believed."""
    return run.read_attempt().cluster if launched_here(run, installation) else None
