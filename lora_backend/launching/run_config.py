"""The config of a run that is there, resolved for another start of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lora_backend.installation import Installation
from lora_backend.preflight.path_policy import AnyPath, PathPolicy
from lora_backend.preflight.resolve import ResolvedConfig, resolve
from lora_backend.runs.checkpoints.manifest import checkpoints_of
from lora_backend.runs.checkpoints.publication import is_published_by, place_of
from lora_backend.runs.processes.trainer_command import launched_here
from lora_backend.runs.record.run_store import RunStore


def resolve_run(
    run: RunStore, values: Mapping[str, Any], installation: Installation, policy: PathPolicy
) -> ResolvedConfig:
    """What a run's config names here. What it was launched with on this machine was bound then; a run that was copied
    here may name any file, so it is held to the `policy` of whoever starts it again.

    Raises `ModelError`, `DataError` or `ConfigError` for a path that a copied run may not name.
    """
    if launched_here(run, installation):
        return resolve(values, installation, bound_before(run))
    resolved = resolve(values, installation, policy)
    resolved.refuse_escapes()
    return resolved


def bound_before(run: RunStore, *, is_bound_in_publishing: bool = True) -> PathPolicy:
    """For paths that were bound when their run was made: they are absolute."""
    return AnyPath(
        run.path,
        is_bound_in_publishing=is_bound_in_publishing,
        has_begun=next(iter(checkpoints_of(run)), None) is not None,
    )


def stands_in_its_place(run: RunStore, values: Mapping[str, Any], installation: Installation) -> bool:
    """Whether the adapter where `values` would have one published is the run's own, of an earlier start."""
    place = place_of(values, installation)
    return place is not None and is_published_by(run, place)
