"""Load a base model and its tokenizer from this machine's files: safetensors only, no remote code, no network."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate.hooks import ModelHook, add_hook_to_module
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from lora_backend.config.schema import TrainingConfig
from lora_backend.errors import ModelError, first_line
from lora_backend.i18n import N_
from lora_backend.modeling.blocks import find_blocks
from lora_backend.modeling.devices import DTYPES, gib, resolve_precision
from lora_backend.modeling.quantization import (
    quantization_config,
    quantized_layers,
    scale_bytes,
    settle_dtypes,
    settle_quantized,
)
from lora_backend.modeling.step import inputs_device
from lora_backend.models.causal import refuse_other_kinds
from lora_backend.models.describe import describe_model, read_json_object
from lora_backend.models.find import find_model
from lora_backend.models.model_limits import refuse_oversized
from lora_backend.models.quantized import quantized_as

logger = logging.getLogger(__name__)


def load_model(config: TrainingConfig, device_map: Mapping[str, int | str] | str | None = None) -> PreTrainedModel:
    """The base model on its devices, in the config's precision, its linear layers in that of `quantization`.

    `device_map`: a map or a word of accelerate's, in place of the config's; without either, one device.
    Raises `ModelError` where it cannot be loaded so.
    """
    path = _weights_folder(config.model_name)
    facts = read_json_object(path / "config.json")
    refuse_oversized(facts)
    refuse_other_kinds(facts)
    precision = resolve_precision(config.precision)
    device_map = device_map or config.device_map or {"": 0 if torch.cuda.is_available() else "cpu"}
    quantized = quantization_config(config.quantization, DTYPES[precision], facts)
    logger.info(
        "loading %s in %s, quantization %s, device_map %s", path, precision, config.quantization or "none", device_map
    )
    try:
        model = AutoModelForCausalLM.from_pretrained(
            path,
            dtype=DTYPES[precision],
            device_map=device_map,
            attn_implementation=config.attn_implementation,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            # Left out where it is None: transformers takes that for the word that a quantized model is whole.
            **({"quantization_config": quantized} if quantized else {}),
        )
    except (OSError, ValueError, ImportError, KeyError, RuntimeError, SafetensorError) as error:
        raise ModelError(
            N_("The model {path} cannot be loaded: {reason}"), path=str(path), reason=first_line(error)
        ) from error
    if quantized_as(facts) is not None:
        settle_dtypes(model, DTYPES[precision])
    settle_quantized(model, config.quantization)
    if is_spread_over_gpus(model):
        leave_outputs(model)
    log_allocation(model)
    return model


def is_spread_over_gpus(model: PreTrainedModel) -> bool:
    """Whether a model's parts are on several devices, none of them in host memory or on disk."""
    places = set(map(str, getattr(model, "hf_device_map", {}).values()))
    return len(places) > 1 and not places & {"cpu", "disk"}


def leave_outputs(model: PreTrainedModel) -> None:
    """Let the logits of a model that is spread over devices stay where its head is.

    accelerate's own hook on the whole model copies all that it returns back to the device of its inputs: a second time
    the bytes of the logits, on a device that need not have room for them. This one only brings the inputs in.
    """
    add_hook_to_module(model, _InputsToEmbedding())


class _InputsToEmbedding(ModelHook):  # type: ignore[misc]  # accelerate's classes are untyped
    """Brings tensors to the embedding from wherever they are; a cache, whose parts lie beside their blocks, stays."""

    def pre_forward(self, module: Any, *args: Any, **kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
        device = inputs_device(module)
        return tuple(_on(device, one) for one in args), {name: _on(device, one) for name, one in kwargs.items()}


def _on(device: torch.device, value: Any) -> Any:
    return value.to(device) if isinstance(value, torch.Tensor) else value


def vocabulary_size(model: PreTrainedModel) -> int | None:
    """Tokens that the model chooses from; None where its config does not say."""
    return getattr(model.config.get_text_config(decoder=True), "vocab_size", None)


def load_tokenizer(model_name: str) -> PreTrainedTokenizerBase:
    """The model's tokenizer, with a pad token. Raises `ModelError` where the folder has none."""
    path = _weights_folder(model_name)
    if not describe_model(path).has_tokenizer:
        raise ModelError(
            N_("The model folder {path} has no tokenizer. Copy tokenizer.json and tokenizer_config.json into it."),
            path=str(path),
        )
    try:
        tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True, trust_remote_code=False)
    except (
        Exception
    ) as error:  # tokenizers raises just that, and a config.json that is wrong is told in classes of its own
        raise ModelError(
            N_("The tokenizer in {path} cannot be loaded: {reason}"), path=str(path), reason=first_line(error)
        ) from error
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def _weights_folder(model_name: str) -> Path:
    path = find_model(model_name)
    if path.is_file():
        raise ModelError(
            N_("{path} describes a model but has no weights. Name the folder that has them."), path=str(path)
        )
    return path


def log_allocation(model: Any) -> None:
    """Log, per device, how many blocks and bytes of weights it holds."""
    sizes: Counter[str] = Counter()
    for parameter in model.parameters():
        sizes[str(parameter.device)] += parameter.numel() * parameter.element_size()
    for layer in quantized_layers(model):
        sizes[str(layer.weight.device)] += scale_bytes(layer)
    blocks: dict[str, list[int]] = {}
    found = find_blocks(model)
    for index, block in enumerate(found[1] if found else []):
        blocks.setdefault(str(next(block.parameters()).device), []).append(index)
    for device, size_bytes in sizes.items():
        held = blocks.get(device, [])
        span = f"{len(held)} blocks, {held[0]} to {held[-1]}" if held else "no blocks"
        logger.info("device %s: %s of weights, %s", device, gib(size_bytes), span)
