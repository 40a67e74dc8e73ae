"""Attach a LoRA adapter to a model as the config asks."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping
from typing import Any

from peft import LoraConfig, PeftModel, get_peft_model
from peft.utils import transformers_weight_conversion as weight_conversion
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from lora_backend.config.schema import TrainingConfig
from lora_backend.errors import ModelError
from lora_backend.expressions.matching import KEY, WHOLE
from lora_backend.expressions.question import Question
from lora_backend.i18n import N_
from lora_backend.modeling.blocks import find_blocks
from lora_backend.modeling.trained_dtype import hold_trained_in_fp32
from lora_backend.models.quantized import refuse_quantized
from lora_backend.verification.coverage import targets_of

logger = logging.getLogger(__name__)


def attach_adapter(model: PreTrainedModel, config: TrainingConfig) -> PeftModel:
    """Wrap `model` with a fresh LoRA; all that trains is in fp32.

    Raises `ModelError` where modules or blocks are named that the model does not have, and `ExpressionError` where an
    expression takes too long.
    """
    refuse_quantized(model.config.to_dict(), None)
    expressions = refuse_slow_expressions(config.model_dump(), (name for name, _ in model.named_modules()))
    blocks = find_blocks(model)
    _refuse_blocks_beyond(config, len(blocks[1]) if blocks else None)
    _refuse_experts_left_out(config, model)
    try:
        lora_config = LoraConfig(
            task_type="CAUSAL_LM",
            r=config.r,
            lora_alpha=config.alpha,
            lora_dropout=config.lora_dropout,
            rank_pattern=config.rank_pattern or {},
            alpha_pattern=config.alpha_pattern or {},
            modules_to_save=config.modules_to_save,
            bias=config.bias,
            use_rslora=config.use_rslora,
            use_dora=config.use_dora,
            init_lora_weights=config.init_lora_weights,
            **_targets(model, config, expressions),
        )
        wrapped = get_peft_model(model, lora_config)
    except (ValueError, re.error) as error:
        if "not found in the base model" in str(error) or "No modules were targeted" in str(error):
            raise ModelError(
                N_("`target_modules` matches no module of the model. Its linear layers are: {known}."),
                known=", ".join(linear_endings(model)),
            ) from error
        raise ModelError(N_("The adapter cannot be attached: {reason}"), reason=str(error)) from error
    hold_trained_in_fp32(wrapped)
    trainable, total = wrapped.get_nb_trainable_parameters()
    logger.info("adapter attached: %s of %s parameters train (%.2f %%)", trainable, total, 100 * trainable / total)
    return wrapped


def refuse_slow_expressions(config: Mapping[str, Any], names: Iterable[str]) -> Question:
    """Match what PEFT is about to match, our config's or an `adapter_config.json`'s, but by a deadline: PEFT has none.

    Raises `ExpressionError`; returns the question with its answers.
    """
    question, names = Question(), tuple(names)
    targets_of(config, question=question).prepare(names)
    patterns = [config.get(key) for key in ("rank_pattern", "alpha_pattern")]
    question.prepare((KEY, [key for keys in patterns if isinstance(keys, Mapping) for key in keys], names))
    return question


def linear_endings(model: nn.Module) -> list[str]:
    """Endings of the names of all linear layers but the output head: `q_proj`, `down_proj`, …"""
    head = model.get_output_embeddings()  # type: ignore[operator]
    linear = (
        name for name, module in model.named_modules() if isinstance(module, nn.Linear | Conv1D) and module is not head
    )
    return list(dict.fromkeys(name.rsplit(".", 1)[-1] for name in linear))


def _refuse_blocks_beyond(config: TrainingConfig, num_blocks: int | None) -> None:
    beyond = [index for index in config.target_layers or [] if num_blocks is not None and index >= num_blocks]
    if beyond:
        raise ModelError(
            N_("`target_layers` names {layers}, but the model has {count} {count:block|blocks}, numbered 0 to {last}."),
            layers=", ".join(map(str, beyond)),
            count=num_blocks,
            last=(num_blocks or 0) - 1,
        )


def _refuse_experts_left_out(config: TrainingConfig, model: nn.Module) -> None:
    """For some mixtures PEFT lets `all-linear` mean the experts' parameters too, but only where it writes it out itself."""
    if config.target_modules != "all-linear" or config.target_layers is None:
        return
    pattern = weight_conversion._MODEL_TO_CONVERSION_PATTERN.get(model.config.model_type)  # type: ignore[union-attr]
    if pattern in weight_conversion._MOE_FUSED_TARGETS:
        raise ModelError(
            N_(
                "`all-linear` together with `target_layers` would leave out the experts of this model. Name the modules in `target_modules`, or leave `target_layers` out."
            )
        )


def _targets(model: nn.Module, config: TrainingConfig, expressions: Question) -> dict[str, Any]:
    """PEFT's arguments for `target_modules` and `target_layers`.

    PEFT takes `layers_to_transform` only beside a list, so a word or expression is written out as one first.
    """
    targets, layers = config.target_modules, config.target_layers
    if layers is None:
        return {"target_modules": targets}
    if targets == "all-linear":
        return {"target_modules": linear_endings(model), "layers_to_transform": layers}
    if isinstance(targets, str):
        names = [name for name, _ in model.named_modules() if _block_of(name) in layers]
        matched = [name for name in names if expressions.matches(WHOLE, targets, name)]
        return {"target_modules": matched or [targets]}
    return {"target_modules": targets, "layers_to_transform": layers}


def _block_of(name: str) -> int | None:
    found = re.search(r"\.(\d+)\.", name)
    return int(found[1]) if found else None
