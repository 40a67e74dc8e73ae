"""A profile for a model whose step cannot be traced: counted on the meta device, its activations by formula."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn
from transformers import PreTrainedModel

from lora_backend.config.schema import TrainingConfig
from lora_backend.modeling.blocks import outer_modules
from lora_backend.modeling.census import Census, kinds_of
from lora_backend.modeling.meta import build_meta
from lora_backend.modeling.taken_step import taken_on
from lora_backend.planning.cost.formula import EXPERTS, VISITED, Measures, with_activations
from lora_backend.planning.cost.profile import Profile
from lora_backend.planning.cost.trace_settings import TraceSettings


def profile_by_formula(facts: Mapping[str, Any], config: TrainingConfig, settings: TraceSettings) -> Profile:
    """Parameters, weights and trained tensors are the model's own; what a step keeps is what a Llama of its width keeps.

    Raises `ModelError` where the model cannot be built.
    """
    meta = build_meta(facts, settings, config)
    measures = measures_of(meta.base)
    head = _behind_the_blocks(meta.base, meta.blocks_path)
    census = Census(meta, settings, taken_on(meta.model, settings), config.r)
    return with_activations(census.profile(head, *kinds_of(meta.blocks)), measures)


def measures_of(model: PreTrainedModel) -> Measures:
    """From the config as transformers reads it, and from the table of embeddings; what differs by block counts by its largest."""
    config = model.config.get_text_config(decoder=True)

    def measure(*names: str) -> int | None:
        for name in names:
            value = getattr(config, name, None)
            numbers = [n for n in (value if isinstance(value, list | tuple) else [value]) if type(n) is int and n > 0]
            if numbers:
                return max(numbers)
        return None

    table = model.get_input_embeddings().weight  # type: ignore[operator]
    vocabulary, hidden = int(table.shape[0]), measure("hidden_size") or int(table.shape[1])
    heads = measure("num_attention_heads", "num_heads") or max(hidden // 64, 1)
    head_size = measure("head_dim", "kv_channels") or max(hidden // heads, 1)
    is_mixture = (measure(*EXPERTS) or 1) > 1
    widths = ("intermediate_size", "ffn_hidden_size", "ffn_dim", "n_inner", "d_ff")
    return Measures(
        hidden=hidden,
        heads=heads,
        wide=heads * head_size,
        narrow=(measure("num_key_value_heads") or heads) * head_size,
        inner=(measure("moe_intermediate_size", "expert_ffn_hidden_size") if is_mixture else None)
        or measure(*widths)
        or 4 * hidden,
        visited=(measure(*VISITED) or 1) if is_mixture else 1,
        vocabulary=vocabulary,
    )


def _behind_the_blocks(model: PreTrainedModel, path: str) -> list[str]:
    """The output head, and what is made behind the blocks but for what only turns angles."""
    holder, _, last = path.rpartition(".")
    siblings = [name for name, _ in model.get_submodule(holder).named_children()]
    behind = set(siblings[siblings.index(last) + 1 :])
    head = model.get_output_embeddings()

    def is_head(name: str) -> bool:
        module: nn.Module = model.get_submodule(name)
        return module is head or (name.rpartition(".")[2] in behind and any(True for _ in module.parameters()))

    return [name for name in outer_modules(model, path) if is_head(name)]
