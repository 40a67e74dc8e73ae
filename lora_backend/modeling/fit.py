"""Whether an adapter's folder fits a base model: PEFT's own loading, with names and shapes in the place of values.

The base model is built on the meta device from its `config.json`, so nothing of its weights is read and nothing is
imitated: PEFT renames what transformers renamed or fused since, and says what goes where.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from peft import PeftConfig, PeftModel
from peft.tuners.lora.monteclora import MontecloraSampler
from torch import nn
from transformers.initialization import no_init_weights

from lora_backend.errors import FlightdeckError, ModelError, first_line
from lora_backend.i18n import N_
from lora_backend.modeling.adapter import refuse_slow_expressions
from lora_backend.modeling.loaded_identity import tensor_differences
from lora_backend.modeling.lora_layers import lora_layers_of_model
from lora_backend.modeling.meta import build_base
from lora_backend.models.headers import TensorInfo
from lora_backend.planning.cost.trace_settings import TraceSettings
from lora_backend.verification.adapter_folder import PEFT_PREFIX, read_adapter_config, split_lora_key
from lora_backend.verification.against_base import TreeAnswer
from lora_backend.verification.differences import Difference
from lora_backend.verification.on_headers import ranks_by_values
from lora_backend.verification.shapes import canonical_name

NAME = "default"


def fit_of(facts: Mapping[str, Any], folder: Path, tensors: Mapping[str, TensorInfo]) -> TreeAnswer:
    """Hold the adapter in `folder`, with these `tensors`, against the model of a `config.json`.

    Raises `ModelError` where either cannot be built, and `ExpressionError` where an expression takes too long.
    """
    base = build_base(facts, TraceSettings())
    names = {name for name, _ in base.named_modules()}
    own = read_adapter_config(folder) or {}
    refuse_slow_expressions(own, names)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of values, of which there are none here
        try:
            model = attached_without_bytes(base, folder)
            return TreeAnswer(tuple(_differences(model, tensors, own)), _known_of_layers(model))
        except FlightdeckError:
            raise
        except Exception as error:  # whatever somebody else's files make PEFT raise
            unplaced = tuple(_without_module(tensors, names))
            if unplaced:
                return TreeAnswer(unplaced, {})
            reason = first_line(error)
            raise ModelError(N_("PEFT cannot put the adapter on this model: {reason}"), reason=reason) from error


def attached_without_bytes(base: nn.Module, folder: Path) -> PeftModel:
    """The base model with the adapter's places, on the meta device as itself; the adapter is called `NAME`."""
    config = PeftConfig.from_pretrained(str(folder))
    config.inference_mode = True
    config.init_lora_weights = True  # the others compute with the base's values
    if config.peft_type == "ADALORA":
        config.rank_pattern = None  # which rows were kept is the rank check's question, and needs values here
    with torch.device("meta"), no_init_weights():
        model = PeftModel(base, config, NAME, autocast_adapter_dtype=False)
    for module in model.modules():
        if hasattr(module, "lora_monteclora_sampler"):  # PEFT leaves it to the first step where there are no values
            count, rank = config.monteclora_config.num_samples, module.lora_A[NAME].out_features
            made = MontecloraSampler(in_features=1, out_features=rank, num_samples=count, device="cpu")
            module.lora_monteclora_sampler[NAME] = made
    return model


def _without_module(tensors: Mapping[str, TensorInfo], modules: set[str]) -> Iterator[Difference]:
    """The halves of a LoRA whose module the model does not have."""
    for key, info in tensors.items():
        half = split_lora_key(key.removeprefix(PEFT_PREFIX))
        if half and canonical_name(half[0]) not in modules:
            yield Difference("not_in_model", key.removeprefix(PEFT_PREFIX), canonical_name(half[0]), info.shape)


def _differences(model: PeftModel, tensors: Mapping[str, TensorInfo], own: Mapping[str, Any]) -> Iterator[Difference]:
    """What PEFT would drop, leave as it was made, or refuse for its size."""
    empty = {key: torch.empty(info.shape, device="meta") for key, info in tensors.items()}
    for item in tensor_differences(model, empty, NAME, values=False) or ():
        if not (ranks_by_values(own) and _is_rank_alone(item)):
            yield item


def _is_rank_alone(item: Difference) -> bool:
    """Whether only a rank differs."""
    half, file, model = split_lora_key(item.name), item.file_shape, item.model_shape
    if half is None or item.code != "other_shape" or file is None or model is None or len(file) != len(model):
        return False
    axis = 1 if half[1].endswith("B") else 0
    return file[:axis] + file[axis + 1 :] == model[:axis] + model[axis + 1 :]


def _known_of_layers(model: PeftModel) -> dict[str, dict[str, Any]]:
    """Module in the file → what the model knows of the layer and headers do not say: of experts how many, and of what
    `target_parameters` names whether it is the weight of a linear layer."""
    by_parameter = bool(getattr(model.peft_config[NAME], "target_parameters", None))
    return {
        layer.file_name.removeprefix(PEFT_PREFIX): {
            "name": layer.name,
            "kind": layer.kind,
            "num_experts": layer.num_experts,
            "groups": layer.groups,
            "rule_name": layer.rule_name,
        }
        for layer in lora_layers_of_model(model, NAME)
        if layer.kind in ("experts", "conv") or by_parameter
    }
