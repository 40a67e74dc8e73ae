"""Read the LoRA layers of a live model as plain data: by type, through every wrapper, whatever the layout."""

from __future__ import annotations

import pickle
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from peft import PeftConfig
from peft.tuners.lora import LoraLayer as PeftLoraLayer
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import ModulesToSaveWrapper
from torch import nn
from transformers.pytorch_utils import Conv1D

from lora_backend.errors import ModelError
from lora_backend.i18n import N_
from lora_backend.models.headers import TensorInfo
from lora_backend.models.refused_targets import adaptable
from lora_backend.verification.adapter_folder import bd_blocks
from lora_backend.verification.shapes import Kind, LoraLayer, canonical_name

TARGETABLE = (nn.Linear, Conv1D, nn.Embedding, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.MultiheadAttention)


def peft_config_of(model: nn.Module, adapter_name: str | None) -> dict[str, Any] | None:
    """The PEFT config of an adapter of `model`, through DDP and `torch.compile`; None where it has none."""
    for module in model.modules():  # the wrappers come first
        configs = getattr(module, "peft_config", None)
        if isinstance(configs, Mapping) and configs:
            active = adapter_name or getattr(module, "active_adapter", None)
            chosen = configs.get(active) if isinstance(active, str) else None
            return plain_config(chosen or next(iter(configs.values())))
    return None


def plain_config(config: Any) -> dict[str, Any]:
    """Ours, a PeftConfig, or a dict → a dict."""
    if isinstance(config, PeftConfig):
        plain = dict(config.to_dict())
        plain["peft_type"] = getattr(config.peft_type, "value", config.peft_type)
        return plain
    if hasattr(config, "model_dump"):  # our TrainingConfig
        return dict(config.model_dump())
    return dict(config)


def modules_saved_whole(model: nn.Module) -> list[str]:
    """Canonical names of the modules that are trained and saved whole beside LoRA (`modules_to_save`)."""
    return [canonical_name(name) for name, module in model.named_modules() if isinstance(module, ModulesToSaveWrapper)]


def base_trains(model: nn.Module, config: Mapping[str, Any]) -> bool:
    """Whether a parameter of the base model would be trained that the config does not ask for."""
    tuners = [module for module in model.modules() if isinstance(module, BaseTunerLayer)]
    adapters = {
        id(parameter)
        for tuner in tuners
        for name in (*tuner.adapter_layer_names, *tuner.other_param_names)
        if isinstance(part := getattr(tuner, name, None), nn.Module)
        for parameter in part.parameters()
    }
    asked = ("modules_to_save", "trainable_tokens", *(["bias"] if config.get("bias", "none") != "none" else []))
    return bool(tuners) and any(
        parameter.requires_grad and id(parameter) not in adapters and not any(part in name for part in asked)
        for name, parameter in model.named_parameters()
    )


def has_not_finite(model: nn.Module, adapter: str | None) -> bool:
    """Whether a value of the adapter (None: of any) is NaN or Inf."""
    parts = ("lora_", "modules_to_save.", "token_adapter.")
    return any(
        not bool(torch.isfinite(parameter.detach()).all())
        for name, parameter in model.named_parameters()
        if any(part in name for part in parts)
        and (adapter is None or adapter in name.split("."))
        and parameter.is_floating_point()
        and _has_values(parameter)
    )


def has_other_tuner(model: nn.Module) -> bool:
    """Whether the model carries adapter layers, none of which is a LoRA's."""
    tuners = [module for module in model.modules() if isinstance(module, BaseTunerLayer)]
    return bool(tuners) and not any(isinstance(module, PeftLoraLayer) for module in tuners)


def module_names(model: nn.Module) -> tuple[list[str], list[str]]:
    """Canonical names of the modules that LoRA can be put on, and of those that `all-linear` means."""
    head = model_type = None
    for module in model.modules():
        if hasattr(module, "get_output_embeddings"):
            head, model_type = module.get_output_embeddings(), getattr(module.config, "model_type", None)
            break
    targetable: dict[str, None] = {}
    linear: dict[str, None] = {}
    for name, module in model.named_modules():
        if _is_inside_adapter(name) or not isinstance(module, TARGETABLE):
            continue
        canonical = canonical_name(name)
        targetable[canonical] = None
        if (
            isinstance(module, nn.Linear | Conv1D)
            and module is not head
            and module is not getattr(head, "base_layer", None)
        ):
            linear[canonical] = None
    return list(targetable), list(adaptable(linear, model_type))


def _is_inside_adapter(name: str) -> bool:
    inside = ("original_module", "modules_to_save", "token_adapter")
    return any(part.startswith("lora_") or part in inside for part in name.split("."))


def lora_layers_of_model(
    model: nn.Module, adapter_name: str | None = None, own_config: Mapping[str, Any] | None = None
) -> list[LoraLayer]:
    """Every LoRA layer of one adapter (default: the active one), read from its tensors."""
    attention: list[str] = []  # raw names of wrapped MultiheadAttentions
    layers = []
    for name, module in model.named_modules():
        if not isinstance(module, PeftLoraLayer):
            continue
        if type(module).__name__ == "MultiheadAttention":
            attention.append(name)
        adapter = adapter_name or next(iter(module.active_adapters), "default")
        layer = _read_layer(name, module, adapter, own_config or {})
        if layer is not None:
            layers.append(_with_parent_rule(layer, name, attention))
    return layers


def _with_parent_rule(layer: LoraLayer, raw_name: str, attention: list[str]) -> LoraLayer:
    """The output projection of a MultiheadAttention takes the rank that is asked of its parent."""
    parent = next((name for name in attention if raw_name == f"{name}.base_layer.out_proj"), None)
    return layer if parent is None else layer._replace(rule_name=canonical_name(parent))


def _read_layer(name: str, module: PeftLoraLayer, adapter: str, config: Mapping[str, Any]) -> LoraLayer | None:
    is_embedding = adapter in module.lora_embedding_A or adapter in module.lora_embedding_B
    halves = (module.lora_embedding_A, module.lora_embedding_B) if is_embedding else (module.lora_A, module.lora_B)
    a, b = (_tensor(half, adapter) for half in halves)
    if a is None and b is None:
        return None
    e = _tensor(module.lora_E, adapter) if hasattr(module, "lora_E") else None
    canonical = canonical_name(name)
    kind: Kind = "embedding" if is_embedding else "adalora" if e is not None else "linear"
    num_experts, groups = None, bd_blocks(canonical, config)
    if hasattr(module, "parameter_name"):
        # PEFT may stand on a linear layer's weight instead of the layer: it is the same adapter.
        if not (module.parameter_name == "weight" and isinstance(module.get_base_layer(), nn.Linear)):
            canonical, kind, num_experts = f"{canonical}.{module.parameter_name}", "experts", module.num_experts
    elif len(_shape(a) or ()) > 2:
        kind, groups = "conv", module.get_base_layer().groups
    scaling = module.scaling.get(adapter)
    if isinstance(scaling, torch.Tensor) and scaling.numel() == 1 and not scaling.is_meta:
        scaling = scaling.item()
    return LoraLayer(
        name=canonical,
        shape_a=_shape(a),
        shape_b=_shape(b),
        kind=kind,
        layer_r=module.r.get(adapter) if isinstance(module.r.get(adapter), int) else None,
        scaling=float(scaling) if isinstance(scaling, int | float) else None,
        groups=groups,
        num_experts=num_experts,
        zero_rows_a=_zero_rows(a),
        adds_nothing=_is_zero(a) or _is_zero(b) or _is_zero(e),
        a_trains=None if a is None else a.requires_grad,
        b_trains=None if b is None else b.requires_grad,
        is_meta=any(half is not None and half.is_meta for half in (a, b)),
        is_partitioned=any(hasattr(half, "ds_shape") for half in (a, b)),
        in_features=module.in_features if kind == "linear" else None,
        is_merged=adapter in module.merged_adapters,
        magnitude=_shape(_tensor(getattr(module, "lora_magnitude_vector", None), adapter)),
        file_name=name,
    )


UNREADABLE = (OSError, RuntimeError, ValueError, EOFError, AttributeError, LookupError, TypeError)
"""What torch raises for bytes that are no pickled tensors, beside the errors of pickle and struct themselves."""


def read_bin(path: Path) -> dict[str, TensorInfo]:
    """Names and shapes of a pickled weight file, opened so that no code of it runs. Raises `ModelError`."""
    try:
        loaded = torch.load(path, map_location="meta", weights_only=True)
        return {
            name: TensorInfo(tuple(tensor.shape), str(tensor.dtype), tensor.numel() * tensor.element_size())
            for name, tensor in loaded.items()
            if isinstance(tensor, torch.Tensor)
        }
    except (*UNREADABLE, pickle.UnpicklingError, struct.error) as error:
        raise ModelError(
            N_(
                "{path} is damaged, or cannot be opened without running code in it. Save the adapter again as safetensors."
            ),
            path=str(path),
        ) from error


def _tensor(half: Any, adapter: str) -> torch.Tensor | None:
    """lora_A and lora_B hold modules, embeddings and AdaLoRA parameters."""
    if half is None or adapter not in half:
        return None
    found = half[adapter]
    return found if isinstance(found, torch.Tensor) else found.weight


def _shape(tensor: torch.Tensor | None) -> tuple[int, ...] | None:
    """The whole tensor's shape: a ZeRO-3 shard tells it as `ds_shape`, an FSDP2 one as its own."""
    return None if tensor is None else tuple(getattr(tensor, "ds_shape", tensor.shape))


def _has_values(tensor: torch.Tensor | None) -> bool:
    return tensor is not None and not tensor.is_meta and tensor.numel() > 0


def _zero_rows(a: torch.Tensor | None) -> int | None:
    if a is None or not _has_values(a) or a.dim() < 2:
        return None
    return int((a.detach().flatten(1) == 0).all(dim=1).sum())


def _is_zero(tensor: torch.Tensor | None) -> bool:
    return tensor is not None and _has_values(tensor) and not bool(tensor.detach().any())
