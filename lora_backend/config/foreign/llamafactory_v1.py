"""LLaMA-Factory's v1 format, whose keys stand in sections for adapter, quantization and devices.

Names and defaults as in its `v1/config/` and `v1/plugins/`, read there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lora_backend.config.foreign import reasons as why
from lora_backend.config.foreign.common_rules import (
    QUANT,
    QUANT_NOTE,
    names,
    precision_flag,
    steps_or_none,
    targets,
    total_batch,
)
from lora_backend.config.foreign.data_sets import dataset
from lora_backend.config.foreign.evaluation import steps_or_share
from lora_backend.config.foreign.flat_source import Source
from lora_backend.config.foreign.key_mapping import (
    Carried,
    Rule,
    Tool,
    absent,
    expects,
    is_off,
    keys,
    lost,
    nothing,
    number,
    one_to_one,
    table,
    trains_adapter,
    translated,
)
from lora_backend.config.foreign.word_rules import attention
from lora_backend.i18n import N_

IS = N_("`{target}` is {ours}.")
NO_SCHEDULE = N_("The learning rate stays constant: `{target}` is {ours}.")
DECAY = N_("That is AdamW with torch's defaults: `{target}` is {ours}.")

ABSENT: dict[str, str | Mapping[str, Any]] = {
    why.METHOD: "peft_config.freeze_trainable_layers peft_config.freeze_trainable_modules peft_config.freeze_extra_modules "
    "peft_config.cast_trainable_params_to_fp32 ld_alpha",
    why.SAVING: "peft_config.export_dir peft_config.export_size peft_config.export_hub_model_id "
    "peft_config.export_legacy_format save_epochs save_ckpt_as_hf",
    why.TEMPLATE: "custom_chat_template",
    why.REMOTE_CODE: "trust_remote_code",
    why.DATA: "eval_dataset",
    why.DISTRIBUTED: "dp_size mp_shard_size",
    why.RESUME: "resume_from_checkpoint",
    why.SPEED: "full_determinism",
}
WITH_DEFAULTS: dict[str, dict[str, Any]] = {
    why.METHOD: {
        "pref_loss": "sigmoid", "pref_beta": 0.1, "pref_ftx": 0.0, "simpo_gamma": 0.5, "dpo_label_smoothing": 0.0,
    },
    why.LOADER: {"batching_workers": 16},
    why.DISTRIBUTED: {"cp_size": 1, "cp_mode": "ulysses", "mp_replicate_size": 1, "dist_timeout": 18_000},
    why.GENERATION: {"sample_backend": "hf", "max_new_tokens": 128, "peft_config.infer_dtype": "auto"},
}  # fmt: skip
_SECTIONS = {
    "kernel_config": why.SPEED,
    "dist_config": why.DISTRIBUTED,
    "init_config": why.LOADER,
    "optim_config": why.LEARNS,
    "lr_scheduler_config": why.LEARNS,
    "peft_config": why.ADAPTER,
    "quant_config": why.QUANTIZED,
}
"""What each section is about; the keys of the first ones stand in no list."""


def _bits(source: Source, key: str) -> Carried:
    bits = number(source.get(key))
    if bits is None and source.get("quant_config.name") is None:
        return nothing(N_("Not set."))
    kind = source.get("quant_config.quantization_type") or "nf4"
    if bits not in (4, 8) or (bits == 4 and kind != "nf4"):
        return lost(why.QUANTIZED)
    return translated("quantization", "nf4" if bits == 4 else "int8", QUANT)


def _checkpointing(source: Source, key: str) -> Carried:
    return translated("gradient_checkpointing", not is_off(source.get(key)), IS)


def _schedule(source: Source, key: str) -> Carried:
    return translated("lr_scheduler_type", "constant", NO_SCHEDULE) if source.get(key) is None else lost(why.LEARNS)


def _optimizer(source: Source, key: str) -> Carried:
    return translated("weight_decay", 0.01, DECAY) if source.get(key) is None else lost(why.LEARNS)


def _in_a_section(key: str) -> Rule | None:
    section, _, inner = key.partition(".")
    return absent(_SECTIONS[section]) if inner and section in _SECTIONS else None


RULES: dict[str, Rule] = {
    **one_to_one("llamafactory_v1"),
    **table(ABSENT),
    **table({**WITH_DEFAULTS}),
    **{section: absent(reason) for section, reason in _SECTIONS.items()},
    **{f"{section}.name": absent(_SECTIONS[section]) for section in ("optim_config", "dist_config", "init_config")},
    "model_class": expects(why.METHOD, "llm"),
    "flash_attn": attention(),
    "peft_config.name": trains_adapter("lora", full=(None, "freeze")),
    "peft_config.target_modules": targets(),
    "peft_config.modules_to_save": names("modules_to_save"),
    "quant_config.name": expects(why.QUANTIZED, "bnb", "auto"),
    "quant_config.quantization_bit": Rule(_bits, ("quantization",), QUANT_NOTE),
    "quant_config.quantization_type": expects(why.QUANTIZED, "nf4"),
    "quant_config.double_quantization": expects(why.QUANTIZED, True),
    "quant_config.compute_dtype": expects(why.QUANTIZED, "bfloat16"),
    "kernel_config.name": expects(why.SPEED, "auto"),
    "train_dataset": dataset(),
    "global_batch_size": total_batch("micro_batch_size"),
    "max_steps": steps_or_none("max_steps"),
    "bf16": precision_flag("bf16", "fp16", neither="fp32"),
    "batching_strategy": expects(why.PACKING, "normal"),
    "enable_activation_checkpointing": Rule(_checkpointing, ("gradient_checkpointing",), IS),
    "optim_config": Rule(_optimizer, ("weight_decay",), DECAY),
    "lr_scheduler_config": Rule(_schedule, ("lr_scheduler_type",), NO_SCHEDULE),
    "save_steps": steps_or_share("save_steps"),
}


def _defaults(values: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {
        "peft_config.name": None, "micro_batch_size": 1, "cutoff_len": 2048, "learning_rate": 1e-4,
        "num_train_epochs": 3, "max_grad_norm": 1.0, "bf16": True, "enable_activation_checkpointing": True, "seed": 42,
        "optim_config": None, "lr_scheduler_config": None,
    }  # fmt: skip
    if values.get("peft_config.name") == "lora":
        lora = {"r": 8, "lora_alpha": 16, "lora_dropout": 0.05, "target_modules": "all"}
        found |= {f"peft_config.{key}": value for key, value in lora.items()}
    if "quant_config.name" in values:
        found["quant_config.quantization_bit"] = 4 if values["quant_config.name"] == "bnb" else None
    for section in ("optim_config", "lr_scheduler_config"):
        if any(key.startswith(f"{section}.") for key in values):
            del found[section]
    return found


TOOL = Tool(
    id="llamafactory_v1",
    title="LLaMA-Factory v1",
    markers=keys(
        "train_dataset model_class custom_chat_template init_config dist_config kernel_config quant_config optim_config "
        "peft_config.name dist_config.name kernel_config.name init_config.name quant_config.name optim_config.name "
        "lr_scheduler_config lr_scheduler_config.name batching_strategy batching_workers enable_activation_checkpointing "
        "sample_backend save_ckpt_as_hf"
    ),
    rules=RULES,
    defaults=_defaults,
    sections=frozenset(_SECTIONS),
    also=_in_a_section,
)
