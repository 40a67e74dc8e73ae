"""Read the module tree of a base model off the meta device."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lora_backend.modeling.live_tree import tree_of_model
from lora_backend.modeling.meta import build_base
from lora_backend.models.tree import ModuleTree
from lora_backend.planning.profile import TraceSettings


def module_tree(facts: Mapping[str, Any]) -> ModuleTree:
    """The tree of the causal language model that transformers builds of a `config.json`.

    Raises `ModelError` where it builds none.
    """
    return tree_of_model(build_base(facts, TraceSettings()))
