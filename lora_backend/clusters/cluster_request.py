"""A request to a cluster: read from words, held against what the cluster knows, and made the cluster itself."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from lora_backend.clusters import ray_jobs, slurm_jobs
from lora_backend.clusters.cluster import Cluster, ClusterError
from lora_backend.clusters.cluster_documents import ClusterKind, ClusterRequest, Setting
from lora_backend.clusters.ray_jobs import TOKEN, Ray, ray_address
from lora_backend.clusters.slurm_jobs import Slurm
from lora_backend.i18n import N_, in_code

SETTINGS: dict[str, dict[str, Any]] = {"slurm": slurm_jobs.SETTINGS, "ray": ray_jobs.SETTINGS}
NAMES = {"slurm": Slurm.name, "ray": Ray.name}
"""Of each kind, as people call it."""


def request_for(
    kind: ClusterKind, settings: Mapping[str, Any], environment: Mapping[str, str], address: str | None = None
) -> ClusterRequest:
    """What was asked for, with the address that the `environment` names where none is given.

    Raises `ClusterError` for a setting that this cluster does not have, or a value that it cannot have.
    """
    if address is not None and kind != "ray":
        raise ClusterError(N_("`--address` is only for Ray. Slurm's commands find their cluster themselves."))
    parameters = {name: _value(kind, name, value) for name, value in settings.items()}
    if kind == "ray":
        address = address or ray_address(environment)
    return ClusterRequest(kind=kind, address=address, parameters=parameters)


def cluster_of(request: ClusterRequest, environment: Mapping[str, str]) -> Cluster:
    """The cluster that a request means. A token is taken from the `environment`, and stands in no file."""
    for name, value in request.parameters.items():
        _value(request.kind, name, value)  # a file may say anything
    if request.kind == "slurm":
        return Slurm(request.parameters)
    return Ray(request.address, request.parameters, environment.get(TOKEN))


def clusters_here(environment: Mapping[str, str]) -> list[ClusterKind]:
    """Those to which a job can be submitted from this machine, as far as that is seen without asking them."""
    found: list[ClusterKind] = []
    try:
        Slurm({}).check()
        found.append("slurm")
    except ClusterError:
        pass
    if ray_address(environment):
        found.append("ray")
    return found


def _value(kind: ClusterKind, name: str, value: Any) -> Setting:
    known = SETTINGS[kind]
    if name not in known:
        near = difflib.get_close_matches(name, known, 1)
        if near:
            raise ClusterError(
                N_("{cluster} has no setting `{name}`. Did you mean `{near}`?"),
                cluster=NAMES[kind], name=name, near=near[0],
            )  # fmt: skip
        raise ClusterError(
            N_("{cluster} has no setting `{name}`. Choose one of: {names}."),
            cluster=NAMES[kind], name=name, names=in_code(sorted(known)),
        )  # fmt: skip
    wanted = known[name]
    if wanted is str and isinstance(value, str | int | float) and not isinstance(value, bool):
        text = str(value)
        if text.strip() and text.isprintable():
            return text
    if wanted is bool and isinstance(value, bool):
        return value
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e12
    if wanted in (int, float) and is_number and (wanted is float or value == int(value)):
        return int(value) if value == int(value) else float(value)
    raise ClusterError(
        N_("`{name}` of {cluster} cannot be {value}. Use {kind}."),
        name=name, cluster=NAMES[kind], value=repr(value)[:80],
        kind={str: "TEXT", bool: "true | false", int: "0, 1, 2, …", float: "0, 0.5, 1, …"}[wanted],
    )  # fmt: skip
