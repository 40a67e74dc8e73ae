"""What a start asks of a cluster, and what has become of the job there, as a run's files keep it."""

from __future__ import annotations

from typing import Literal

from lora_backend.typed_json import Count, Number, Part

ClusterKind = Literal["slurm", "ray"]
Setting = str | int | float | bool


class ClusterRequest(Part):
    """Where a start trains, if not on this machine."""

    kind: ClusterKind
    """What runs the cluster."""
    address: str | None = None
    """Of Ray: its dashboard, as `http://head:8265`."""
    parameters: dict[str, Setting] = {}
    """What the job asks for: of Slurm as `partition`, `gpus_per_node`, `timeout_min`; of Ray as `num_gpus`, `num_cpus`."""


class ClusterJob(Part):
    """The job of a start, as its supervisor last saw it."""

    kind: ClusterKind
    """What runs the cluster."""
    name: str
    """What it was submitted as: made of the run and the number of its start."""
    watcher: str
    """The machine whose supervisor follows it."""
    id: str | None = None
    """What the cluster calls it; absent before it has taken it."""
    address: str | None = None
    """As in the request."""
    state: str | None = None
    """In the cluster's own word."""
    since: Number | None = None
    """When this state was first seen; seconds since the epoch."""
    reason: str | None = None
    """Why it is in this state, in the cluster's own words."""
    host: str | None = None
    """The machine that runs it."""
    exit_code: int | None = None
    """Of its process, once it has ended; negative: the signal that ended it."""
    num_cancels: Count = 0
    """How often it was cancelled from here."""
    is_over: bool = False
    """Whether the cluster has no process of it any more."""
