"""The adapter that a config lets the fresh one begin with: bound once, and held against the config by its headers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lora_backend.data.hub_sets import hub_cache
from lora_backend.errors import ModelError
from lora_backend.installation import Installation
from lora_backend.preflight.named_files import NamedModel, Problem
from lora_backend.preflight.path_policy import ModelOutsideError, PathPolicy
from lora_backend.preflight.trees import known_tree
from lora_backend.verification.start_adapter import why_not_begin_with

KEY = "init_from_adapter"


@dataclass(frozen=True)
class NamedAdapter:
    """An adapter by the name that a config gives it."""

    name: str
    path: Path | None
    """Its folder; None where it is not on this machine, or may not be named."""
    policy: PathPolicy
    refusal: ModelError | None = None
    """Why there is no path."""

    @property
    def bound(self) -> str:
        """As it holds whatever the current folder is: a path is absolute, the id of one in the hub's cache stays."""
        is_id = self.path is None or self.path.is_relative_to(hub_cache())
        return self.name if is_id else str(self.path)

    @property
    def escape(self) -> ModelError | None:
        """Why it may not be named from where it was named."""
        return self.refusal if isinstance(self.refusal, ModelOutsideError) else None

    def problem(
        self, values: Mapping[str, Any], model: NamedModel | None, installation: Installation
    ) -> Problem | None:
        """What stands in the way of beginning with it; as with a model, it may be meant for another machine."""
        if self.refusal is not None:
            return "error" if self.escape else "warning", KEY, self.refusal.message
        assert self.path is not None
        here = model.path if model is not None else None
        tree = known_tree(model.config_json, installation) if model is not None and here is not None else None
        said = why_not_begin_with(values, self.path, here, self.policy.model, tree)
        return None if said is None else ("warning", KEY, said)


def named_adapter(name: str, policy: PathPolicy) -> NamedAdapter:
    """Find an adapter as `policy` allows."""
    try:
        return NamedAdapter(name, policy.adapter(name), policy)
    except ModelError as error:
        return NamedAdapter(name, None, policy, error)
