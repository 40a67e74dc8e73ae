"""The config of a run as this start trains by it."""

from __future__ import annotations

from lora_backend.installation import Installation
from lora_backend.launching.run_config import bound_before, stands_in_its_place
from lora_backend.preflight.resolve import ResolvedConfig, resolve
from lora_backend.runs.record.run_store import RunStore


def resolved_again(folder: RunStore, installation: Installation, *, bound: bool) -> ResolvedConfig:
    """With what resumes have changed of it. `bound`: its adapter must be published below an output root."""
    values = folder.config_as_changed()
    policy = bound_before(folder, is_bound_in_publishing=bound)
    overwrites = {"overwrite": True} if stands_in_its_place(folder, values, installation) else {}
    return resolve({**values, **overwrites}, installation, policy)
