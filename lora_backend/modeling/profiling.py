"""The profile of a model: traced, or from a formula where a trace fails."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from transformers import PreTrainedModel

from lora_backend.config.schema import TrainingConfig
from lora_backend.errors import UntraceableError
from lora_backend.modeling.blocks import find_blocks
from lora_backend.modeling.meta import build_base, model_config, module_tree, untrainable
from lora_backend.modeling.step import outer_modules
from lora_backend.modeling.trace import Report, trace_profile
from lora_backend.modeling.trace_sizes import attention_windows, tile_tokens
from lora_backend.planning.formula import formula_profile
from lora_backend.planning.profile import Batch, Profile, TraceSettings
from lora_backend.preflight.trees import tree_of
from lora_backend.settings import load_settings

logger = logging.getLogger(__name__)


def profile_for(
    facts: Mapping[str, Any], config: TrainingConfig, report: Report = lambda *_: None, batch: Batch | None = None
) -> Profile:
    """The profile that `config` (its `precision` resolved) needs: traced, or from a formula where that fails.

    `batch`: a real one, in place of the largest. Raises `ModelError` where the model cannot be built at all.
    """
    with untrainable("model_name"):
        architecture = model_config(facts)
        _keep_tree(facts)
    windows, tile = attention_windows(architecture), tile_tokens(architecture)
    settings = TraceSettings.of(config, config.precision, windows, tile, batch)
    try:
        return trace_profile(facts, config, settings, report)
    except UntraceableError as error:
        logger.warning("%s", error)
        return _named(formula_profile(facts, config, settings), build_base(facts, settings))


def _keep_tree(facts: Mapping[str, Any]) -> None:
    """A config that is planned can be held against the model's modules from then on, and without torch."""
    try:
        tree_of(facts, module_tree, load_settings())
    except OSError as error:  # it cannot be kept; the plan does without it
        logger.warning("The model's modules cannot be kept: %s", error)


def _named(profile: Profile, model: PreTrainedModel) -> Profile:
    """A formula's profile with the model's own names: what is made behind the blocks, but for what only turns angles,
    counts as the head's."""
    found = find_blocks(model)
    assert found is not None, "build_meta has found them"
    path = found[0]
    last = path.rpartition(".")[2]
    holder = model.get_submodule(path.rpartition(".")[0])
    siblings = [name for name, _ in holder.named_children()]
    behind = set(siblings[siblings.index(last) + 1 :])
    head = model.get_output_embeddings()

    def is_head(name: str) -> bool:
        module = model.get_submodule(name)
        return module is head or (name.rpartition(".")[2] in behind and any(True for _ in module.parameters()))

    names = outer_modules(model, path)
    return replace(
        profile,
        blocks_path=path,
        embed_modules=tuple(name for name in names if not is_head(name)),
        head_modules=tuple(name for name in names if is_head(name)),
        kind_of_block=(0,) * len(found[1]),
        windows=attention_windows(model.config),
    )
