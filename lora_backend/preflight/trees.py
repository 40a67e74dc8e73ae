"""The module trees of models, kept by the content of their `config.json`: a trace builds them, checks read them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lora_backend.atomic import write_json
from lora_backend.bounded import read_json
from lora_backend.installation import Installation
from lora_backend.models.tree import VERSION, ModuleTree
from lora_backend.planning.profile_store import model_key

BuildTree = Callable[[Mapping[str, Any]], ModuleTree]
"""Builds a tree from a `config.json`; it takes torch."""


def known_tree(facts: Mapping[str, Any], installation: Installation) -> ModuleTree | None:
    """The tree of a model if it was built before; never asks anybody."""
    try:
        data = read_json(_place(facts, installation))
    except (OSError, ValueError):
        return None
    try:
        return ModuleTree.from_json(data) if data.get("version") == VERSION else None
    except (AttributeError, KeyError, TypeError, ValueError):
        return None


def tree_of(facts: Mapping[str, Any], build: BuildTree, installation: Installation) -> ModuleTree:
    """The tree of a model, built where it is not known yet. Raises what `build` raises."""
    known = known_tree(facts, installation)
    if known is not None:
        return known
    made, place = build(facts), _place(facts, installation)
    place.parent.mkdir(parents=True, exist_ok=True)
    write_json(place, made.to_json())
    return made


def _place(facts: Mapping[str, Any], installation: Installation) -> Path:
    return installation.trees / f"{model_key(facts)}.json"
