"""Read the module tree of a base model off the meta device."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from lora_backend.modeling.blocks import find_blocks
from lora_backend.modeling.meta import build_base
from lora_backend.models.tree import ModuleTree
from lora_backend.planning.profile import TraceSettings


def module_tree(facts: Mapping[str, Any]) -> ModuleTree:
    """The tree of the causal language model that transformers builds of a `config.json`.

    Raises `ModelError` where it builds none.
    """
    return tree_of_model(build_base(facts, TraceSettings()))


def tree_of_model(model: PreTrainedModel) -> ModuleTree:
    """The tree of a base model in memory, or on the meta device."""
    names = {id(module): name for name, module in model.named_modules()}
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()  # type: ignore[operator]
    first: dict[int, str] = {}
    tied: dict[str, str] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        known = first.setdefault(id(parameter), name)
        if known != name:
            tied[name] = known
    blocks = find_blocks(model)
    return ModuleTree(
        model_type=str(model.config.model_type),
        modules={name: type(module).__name__ for name, module in model.named_modules() if name},
        parameters={name: tuple(parameter.shape) for name, parameter in model.named_parameters()},
        tied=tied,
        embedding=names.get(id(embedding)),
        head=names.get(id(head)) if head is not None else None,
        blocks=blocks[0] if blocks else None,
        num_blocks=len(blocks[1]) if blocks else 0,
        linear=tuple(
            name
            for name, module in model.named_modules()
            if isinstance(module, nn.Linear | Conv1D) and module is not head
        ),
    )
