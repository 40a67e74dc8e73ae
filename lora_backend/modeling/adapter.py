"""Attach a LoRA adapter to a model as the config asks, and save it."""

from __future__ import annotations

import logging
import re
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from peft import LoraConfig, PeftModel, get_peft_model
from transformers import PreTrainedModel

from lora_backend.config.key_queries import PATTERN_KEYS
from lora_backend.config.schema import TrainingConfig
from lora_backend.errors import ModelError
from lora_backend.expressions.matching import KEY
from lora_backend.expressions.question import Question
from lora_backend.i18n import N_, Plural
from lora_backend.modeling.live_tree import tree_of_model
from lora_backend.modeling.lora_layers import lora_layers_of_model, modules_saved_whole
from lora_backend.modeling.peft_targets import peft_targets
from lora_backend.modeling.trained_dtype import hold_trained_in_fp32
from lora_backend.models.quantized import refuse_quantized
from lora_backend.models.refused_targets import left_out
from lora_backend.models.tree import ModuleTree
from lora_backend.verification.asked_layers import Asked, asked_of
from lora_backend.verification.coverage import is_all_linear, targets_of
from lora_backend.verification.refusals import refusals
from lora_backend.verification.shapes import canonical_name

logger = logging.getLogger(__name__)


def attach_adapter(model: PreTrainedModel, config: TrainingConfig) -> PeftModel:
    """Wrap `model` with a fresh LoRA on exactly what `config` asks for; all that trains is in fp32.

    Raises `ModelError` where that cannot be, and `ExpressionError` where an expression takes too long.
    """
    refuse_quantized(model.config.to_dict(), None)
    question = refuse_slow_expressions(config.model_dump(), (name for name, _ in model.named_modules()))
    tree = tree_of_model(model)
    _refuse_blocks_beyond(config, tree.num_blocks or None)
    asked = asked_of(config.model_dump(), tree, question)
    _refuse_what_cannot_be(config, asked, tree)
    targets = peft_targets(config, asked, tree, question)
    try:
        lora_config = LoraConfig(
            task_type="CAUSAL_LM",
            r=config.r,
            lora_alpha=config.alpha,
            lora_dropout=config.lora_dropout,
            bias=config.bias,
            use_rslora=config.use_rslora,
            use_dora=config.use_dora,
            init_lora_weights=config.init_lora_weights,
            **targets.arguments,
        )
        with targets.read_as_written():
            wrapped = get_peft_model(model, lora_config)
    except (ValueError, re.error) as error:
        raise ModelError(N_("The adapter cannot be attached: {reason}"), reason=str(error)) from error
    targets.settle(wrapped)
    _refuse_other_than_asked(wrapped, asked)
    _freeze_towers(wrapped, asked, tree)
    hold_trained_in_fp32(wrapped)
    sentence = left_out(tree.model_type) if is_all_linear(config.target_modules) else None
    if sentence is not None:
        logger.info("%s", sentence)
    trainable, total = wrapped.get_nb_trainable_parameters()
    if model.device.type == "meta":  # no adapter of anybody's: the model is looked at without its bytes
        return wrapped
    logger.info("adapter attached: %s of %s parameters train (%.2f %%)", trainable, total, 100 * trainable / total)
    return wrapped


def save_adapter(model: PeftModel, path: Path) -> None:
    """Write the adapter beside `path`, then put it there in one step."""
    staged = path.with_name(f".{path.name}.new")
    shutil.rmtree(staged, ignore_errors=True)
    try:
        model.save_pretrained(str(staged), safe_serialization=True)
        staged.rename(path)
    except BaseException:
        shutil.rmtree(staged, ignore_errors=True)  # its room may be what the run's own files need
        raise
    logger.info("adapter saved in %s", path)


def refuse_slow_expressions(config: Mapping[str, Any], names: Iterable[str]) -> Question:
    """Match what PEFT is about to match, our config's or an `adapter_config.json`'s, but by a deadline: PEFT has none.

    Raises `ExpressionError`; returns the question with its answers.
    """
    question, names = Question(), tuple(names)
    targets_of(config, question=question).prepare(names)
    patterns = [config.get(key) for key in PATTERN_KEYS]
    question.prepare((KEY, [key for keys in patterns if isinstance(keys, Mapping) for key in keys], names))
    return question


def _refuse_blocks_beyond(config: TrainingConfig, num_blocks: int | None) -> None:
    beyond = [index for index in config.target_layers or [] if num_blocks is not None and index >= num_blocks]
    if beyond:
        raise ModelError(
            Plural(
                "`target_layers` names {layers}, but the model has {count} block, numbered 0 to {last}.",
                "`target_layers` names {layers}, but the model has {count} blocks, numbered 0 to {last}.",
            ),
            layers=", ".join(map(str, beyond)),
            count=num_blocks,
            last=(num_blocks or 0) - 1,
        )


def _refuse_what_cannot_be(config: TrainingConfig, asked: Asked, tree: ModuleTree) -> None:
    found = refusals(config.model_dump(), asked, tree)
    if found:
        raise ModelError("{what} {remedy}", what=found[0].message, remedy=found[0].remedy)


def _refuse_other_than_asked(model: PeftModel, asked: Asked) -> None:
    """What PEFT did, held against what it was told: it may be another version, or a model of a kind of its own."""
    layers = {layer.name: layer.layer_r for layer in lora_layers_of_model(model)}
    wanted = asked.ranks
    missing = [name for name, rank in wanted.items() if layers.get(name) != rank]
    beyond = [name for name in layers if name not in wanted and name.rpartition(".")[0] not in wanted]
    saved = set(modules_saved_whole(model)) ^ set(asked.saved_whole)
    if missing or beyond or saved:
        raise ModelError(
            N_(
                "PEFT adapts other layers of this model than the config asks for: {missing} missing, {beyond} beyond it, first {first}. Name other modules in `target_modules`."
            ),
            missing=len(missing),
            beyond=len(beyond),
            first=(missing + beyond + sorted(saved))[0],
        )


def _freeze_towers(model: PeftModel, asked: Asked, tree: ModuleTree) -> None:
    """`bias: all` means those of the text model too: what text does not pass through gets no gradient."""
    named = {tower for name in (*asked.ranks, *asked.saved_whole) if (tower := tree.tower_of(name))}
    for raw, parameter in model.named_parameters():
        tower = tree.tower_of(canonical_name(raw))
        if tower and tower not in named:
            parameter.requires_grad_(False)
