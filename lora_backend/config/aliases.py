"""What other tools call our keys, and what their values are here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from lora_backend.config.schema import KEYS

_NAMES = {
    "model_name": "model model_id model_path base_model model_name_or_path base_model_name_or_path pretrained_model_name_or_path",
    "dataset": "data datasets data_path data_file dataset_path dataset_name train_file train_data training_data",
    "max_length": "max_seq_length max_seq_len max_len seq_len sequence_len sequence_length cutoff_len block_size",
    "attn_implementation": "attn_impl attention_implementation",
    "r": "rank lora_r lora_rank lora_dim",
    "alpha": "lora_alpha",
    "lora_dropout": "dropout adapter_dropout",
    "target_modules": "lora_target lora_target_modules lora_modules target_module",
    "target_layers": "layers_to_transform lora_layers peft_layers_to_transform",
    "use_rslora": "rslora",
    "use_dora": "dora peft_use_dora",
    "bias": "lora_bias",
    "modules_to_save": "lora_modules_to_save additional_target",
    "num_epochs": "epochs epoch n_epochs num_train_epochs",
    "learning_rate": "lr",
    "lr_scheduler_type": "lr_scheduler scheduler scheduler_type",
    "warmup_ratio": "warmup",
    "batch_size": "micro_batch_size train_batch_size per_device_train_batch_size per_gpu_train_batch_size per_device_batch_size",
    "target_batch_size": "global_batch_size effective_batch_size total_batch_size",
    "precision": "dtype torch_dtype mixed_precision",
    "gradient_checkpointing": "activation_checkpointing use_gradient_checkpointing",
    "optim": "optimizer",
    "weight_decay": "wd",
    "max_grad_norm": "max_norm gradient_clipping clip_grad_norm grad_clip",
    "seed": "random_seed manual_seed random_state",
    "val_size": "val_set_size validation_split val_split eval_size",
    "eval_strategy": "evaluation_strategy",
    "output_dir": "output output_path output_folder save_dir save_path loraadaptor_save_path_base",
    "overwrite": "overwrite_output_dir",
    "save_total_limit": "max_checkpoints",
    "logging_steps": "log_steps log_interval",
    "save_steps": "save_interval checkpoint_steps",
    "eval_steps": "eval_interval",
}
ALIASES = {alias: key for key, aliases in _NAMES.items() for alias in aliases.split()}
"""Name in another tool → ours, where the values mean the same."""

_DTYPES = {"bfloat16": "bf16", "float16": "fp16", "half": "fp16", "float32": "fp32", "float": "fp32"}
_SWITCHES: dict[str, dict[str, Any]] = {
    "bf16": {"precision": "bf16"},
    "fp16": {"precision": "fp16"},
    "load_in_4bit": {"quantization": "nf4"},
    "load_in_8bit": {"quantization": "int8"},
    "flash_attention": {"attn_implementation": "flash_attention_2"},
}
"""Switches of other tools that are values here."""
_ARITHMETIC: dict[str, tuple[str, Callable[[Any, Mapping[str, Any]], Any]]] = {
    "gradient_accumulation_steps": (
        "target_batch_size",
        lambda steps, values: steps * values.get("batch_size", KEYS["batch_size"].default),
    ),
    "warmup_steps": ("warmup_ratio", lambda steps, values: steps / values["max_steps"]),
}


def plain_name(name: str) -> str:
    """A key as it is compared: lower case, no hyphens, full-width letters as ordinary ones."""
    return name.strip().lower().replace("-", "_")


def our_name(name: str) -> str | None:
    """Our key for what another tool calls `name`; None where it is none of the known."""
    plain = plain_name(name)
    if plain in KEYS:
        return plain
    if plain in _ARITHMETIC:
        return _ARITHMETIC[plain][0]
    if plain in _SWITCHES:
        return next(iter(_SWITCHES[plain]))
    return ALIASES.get(plain)


def translated(name: str, value: Any, values: Mapping[str, Any]) -> dict[str, Any] | None:
    """Our keys with the values that mean what `name: value` means beside `values`; None where that cannot be told."""
    plain = plain_name(name)
    if plain in _SWITCHES:
        return dict(_SWITCHES[plain]) if value is True else {} if value is False else None
    if plain in _ARITHMETIC:
        key, compute = _ARITHMETIC[plain]
        try:
            return {key: compute(value, values)} if type(value) is int else None
        except (KeyError, TypeError, ZeroDivisionError):
            return None
    key_name = our_name(name)
    if key_name is None:
        return None
    if key_name == "precision" and isinstance(value, str):
        value = _DTYPES.get(value.removeprefix("torch."), value)
    return {key_name: value}
