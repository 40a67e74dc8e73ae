"""A model with its adapter on the meta device: every shape is there, no byte is."""

from __future__ import annotations

import copy
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from peft import PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn
from transformers import CONFIG_MAPPING, AutoConfig, AutoModelForCausalLM, PretrainedConfig, PreTrainedModel
from transformers.initialization import no_init_weights

from lora_backend.config.schema import TrainingConfig
from lora_backend.errors import ModelError, UntrainableError, first_line
from lora_backend.i18n import N_
from lora_backend.modeling.adapter import attach_adapter
from lora_backend.modeling.blocks import find_blocks
from lora_backend.modeling.devices import DTYPES
from lora_backend.modeling.live_tree import tree_of_model
from lora_backend.modeling.packed_layers import packed_layers, refuse_dora
from lora_backend.modeling.quantization import refuse_unquantizable
from lora_backend.modeling.quantized_standin import stand_in_for
from lora_backend.modeling.trained_dtype import embedding_weights
from lora_backend.models.causal import refuse_other_kinds
from lora_backend.models.model_limits import refuse_oversized
from lora_backend.models.packing import Packing, packing_of
from lora_backend.models.tree import ModuleTree
from lora_backend.planning.cost.optimizers import sides_of
from lora_backend.planning.cost.profile import TrainedTensors
from lora_backend.planning.cost.trace_settings import TraceSettings

AXES = ((0, ("lora_A", "lora_embedding_A")), (1, ("lora_B", "lora_embedding_B")))
"""The axis along which tensors of these names have the rank."""


@dataclass
class MetaModel:
    """A whole model without its bytes, and where its blocks are."""

    model: PeftModel
    base: PreTrainedModel
    blocks_path: str
    blocks: nn.ModuleList
    packing: Packing | None = None
    packed: tuple[nn.Module, ...] = ()
    """The layers that are packed in memory; `pack` puts stand-ins in their place."""


def model_config(facts: Mapping[str, Any]) -> PretrainedConfig:
    """The transformers config that a `config.json` describes. No code of the model's own is run.

    Raises `ModelError` where it cannot be understood, or counts more blocks than can be built.
    """
    refuse_oversized(facts)
    facts = copy.deepcopy(dict(facts))  # transformers writes into what is nested (`rope_theta` into `rope_scaling`)
    facts = PretrainedConfig._decode_special_floats(facts)  # `Infinity`, as transformers writes it
    values = {key: value for key, value in facts.items() if key not in ("quantization_config", "transformers_version")}
    model_type = values.pop("model_type", None)
    if not isinstance(model_type, str) or not model_type:
        raise ModelError(N_("The model's config.json has no `model_type`, so its family is unknown. Add it."))
    if not isinstance(values.get("text_config") or {}, Mapping):
        raise ModelError(
            N_("`{key}` in config.json must hold keys and values of its own. Check the file."), key="text_config"
        )
    if model_type not in CONFIG_MAPPING:
        if values.get("auto_map"):
            raise ModelError(
                N_(
                    "Models of the type {model_type} come with their own code, which is not run here. Choose a model that transformers supports."
                ),
                model_type=model_type,
            )
        raise ModelError(
            N_("transformers does not know models of the type {model_type}. Check `model_type` in config.json."),
            model_type=model_type,
        )
    try:
        return AutoConfig.for_model(model_type, **values)
    except Exception as error:  # transformers and huggingface_hub raise their own kinds for values of a wrong type
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise ModelError(N_("config.json cannot be understood: {reason}"), reason=reason) from error


def build_base(facts: Mapping[str, Any], settings: TraceSettings) -> PreTrainedModel:
    """The base model on the meta device. Raises `ModelError` where transformers builds no causal language model of it."""
    config = model_config(facts)
    refuse_other_kinds(facts)
    # Kernels that are not installed here keep what the fused one of torch keeps: queries, keys, values, output.
    attention = settings.attn_implementation
    is_fused = attention is not None and ("flash_" in attention or "/" in attention)
    try:
        with torch.device("meta"), no_init_weights():
            model = AutoModelForCausalLM.from_config(
                config, dtype=DTYPES[settings.precision], attn_implementation=None if is_fused else attention
            )
            model.tie_weights()  # is part of the initialisation that was left out
            _leave_no_bytes(model, DTYPES[settings.precision])
    except Exception as error:  # a family's code may raise anything for figures that do not fit together
        raise ModelError(
            N_("No causal language model can be built from config.json: {reason}"), reason=first_line(error)
        ) from error
    if is_fused and "flash" in str(attention) and not model._supports_flash_attn:
        raise ModelError(
            N_("{family} has no FlashAttention in transformers. Remove `attn_implementation`."),
            family=type(model).__name__,
        )
    return model


def _leave_no_bytes(model: PreTrainedModel, dtype: torch.dtype) -> None:
    """Some families make tensors on the CPU whatever they are told (XLNet, DiffLlama); loading gives them the model's dtype."""
    made: dict[int, nn.Parameter] = {}
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None and not parameter.is_meta:
                empty = torch.empty(parameter.shape, dtype=dtype, device="meta")
                module._parameters[name] = made.setdefault(id(parameter), nn.Parameter(empty, parameter.requires_grad))
        for name, buffer in module._buffers.items():
            if buffer is not None and not buffer.is_meta:
                module._buffers[name] = buffer.to("meta")


@contextmanager
def untrainable(key: str) -> Iterator[None]:
    """What is refused here would be refused of the model with its weights too: `UntrainableError` about `key`."""
    try:
        yield
    except ModelError as error:
        if isinstance(error, UntrainableError):
            raise
        raise UntrainableError(error.message.template, about=key, **error.message.values) from error


def module_tree(facts: Mapping[str, Any]) -> ModuleTree:
    """The module tree of the causal language model that transformers builds of a `config.json`.

    Raises `ModelError` where it builds none.
    """
    return tree_of_model(build_base(facts, TraceSettings()))


def build_meta(facts: Mapping[str, Any], settings: TraceSettings, config: TrainingConfig) -> MetaModel:
    """The model that `config` would train, on the meta device, with the adapter that it would have."""
    with untrainable("attn_implementation" if settings.attn_implementation else "model_name"):
        base = build_base(facts, settings)
        if settings.quantization:
            refuse_unquantizable(base, settings.quantization)
    found = find_blocks(base)
    packing = packing_of(facts, settings.quantization)
    if packing is not None and config.use_dora:
        refuse_dora(packing)
    packed = packed_layers(base, packing, found and found[0]) if packing else []
    with untrainable("target_modules"), torch.device("meta"), no_init_weights():
        model = attach_adapter(base, config.model_copy(update={"init_lora_weights": True}))
    if found is None:
        raise ModelError(N_("The model's blocks cannot be found, so it cannot be planned layer by layer."))
    if settings.precision != "fp32" and settings.adapter_precision != "fp32":
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.to(DTYPES[settings.adapter_precision])
    return MetaModel(model, base, *found, packing, tuple(packed))


def pack(meta: MetaModel, precision: str) -> None:
    """Let the packed layers take what they hold in memory; what counts parameters comes before this."""
    if meta.packing is not None:
        stand_in_for(meta.packed, meta.model, meta.packing, DTYPES[precision])


def signature(block: nn.Module) -> str:
    """Blocks of one signature cost the same: classes, shapes, what trains, and every plain setting but the index."""
    parts: list[Any] = []
    for name, module in block.named_modules():
        plain = {
            key: value
            for key, value in vars(module).items()
            if isinstance(value, str | int | float | bool | None) and not key.startswith("_") and "idx" not in key
        }
        own = [
            (key, tuple(p.shape), str(p.dtype), p.requires_grad)
            for key, p in module._parameters.items()
            if p is not None
        ]
        parts.append([name, type(module).__name__, plain, own])
    return json.dumps(parts, default=str)


def keep_blocks(meta: MetaModel, kept: list[int], *, keeps_tables: bool = False) -> None:
    """Leave only these blocks in the model, in this order, and let its config say so.

    `keeps_tables`: the config goes on to count all blocks, for families that make inputs of each block before the first
    (Gemma's per-layer embeddings) and part them by that number.
    """
    depth = len(meta.blocks)
    chosen = [meta.blocks[index] for index in kept]
    parent = meta.base.get_submodule(meta.blocks_path.rpartition(".")[0])
    meta.blocks = nn.ModuleList(chosen)
    setattr(parent, meta.blocks_path.rpartition(".")[2], meta.blocks)
    configs = {id(module.config): module.config for module in meta.base.modules() if hasattr(module, "config")}
    for config in configs.values():
        if not isinstance(config, PretrainedConfig):
            continue
        for key, value in list(vars(config).items()):
            if key.startswith("_"):
                continue
            if isinstance(value, list | tuple) and len(value) == depth:
                setattr(config, key, [value[index] for index in kept])
            elif (
                key in ("num_hidden_layers", "n_layer", "num_layers", "n_layers")
                and value == depth
                and not keeps_tables
            ):
                setattr(config, key, len(kept))
    for new_index, block in enumerate(chosen):
        for module in block.modules():
            for key in ("layer_idx", "layer_id"):
                if isinstance(getattr(module, key, None), int):
                    setattr(module, key, new_index)


def set_rank(model: nn.Module, old: int, new: int) -> None:
    """Give every LoRA layer of rank `old` the rank `new`, by shapes alone."""
    for module in model.modules():
        if not isinstance(module, BaseTunerLayer):
            continue
        for adapter, rank in list(getattr(module, "r", {}).items()):
            if rank != old:
                continue
            module.r[adapter] = new
            for axis, names in AXES:
                for name in names:
                    _resize(getattr(module, name, {}), adapter, axis, old, new)


def _resize(holder: Any, adapter: str, axis: int, old: int, new: int) -> None:
    if adapter not in holder:
        return
    weights = holder[adapter]
    if isinstance(weights, nn.Parameter):
        holder[adapter] = _resized(weights, axis, old, new)
        return
    weights.weight = _resized(weights.weight, axis, old, new)
    for key in ("out_features", "out_channels") if axis == 0 else ("in_features", "in_channels"):
        if hasattr(weights, key):
            setattr(weights, key, weights.weight.shape[axis])


def _resized(parameter: nn.Parameter, axis: int, old: int, new: int) -> nn.Parameter:
    shape = list(parameter.shape)
    shape[axis] = shape[axis] // old * new
    weights = torch.empty(shape, dtype=parameter.dtype, device="meta")
    return nn.Parameter(weights, requires_grad=parameter.requires_grad)


def trained(module: nn.Module, rank: int, seen: set[int] | None = None) -> tuple[TrainedTensors, ...]:
    """Trained tensors of a module that are not in `seen`, by size; adds them to it. `rank` is the config's `r`."""
    seen = set() if seen is None else seen
    axis_of_rank = {
        id(parameter): axis
        for layer in module.modules()
        if isinstance(layer, BaseTunerLayer)
        for adapter, layer_rank in getattr(layer, "r", {}).items()
        if layer_rank == rank
        for axis, names in AXES
        for name in names
        for parameter in _tensors(getattr(layer, name, {}), adapter)
    }
    tables = embedding_weights(module)
    counts: Counter[TrainedTensors] = Counter()
    for parameter in module.parameters():
        if parameter.requires_grad and id(parameter) not in seen:
            seen.add(id(parameter))
            axis = axis_of_rank.get(id(parameter))
            size, sides = parameter.numel(), sides_of(parameter.shape)
            of_rank = (0, 0) if axis is None else (size // rank, parameter.shape[axis] // rank)
            fixed = (size, sides) if axis is None else (0, sides - parameter.shape[axis])
            counts[TrainedTensors(fixed[0], of_rank[0], 1, id(parameter) in tables, fixed[1], of_rank[1])] += 1
    return tuple(tensors._replace(num_tensors=count) for tensors, count in counts.items())


def _tensors(holder: Any, adapter: str) -> list[nn.Parameter]:
    if adapter not in holder:
        return []
    weights = holder[adapter]
    return [weights] if isinstance(weights, nn.Parameter) else [weights.weight]
