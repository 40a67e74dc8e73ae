"""Unsloth's YAML, with its sections; names and defaults as in its `unsloth_cli/config.py` and its Studio's files, read there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lora_backend.config.foreign import reasons as why
from lora_backend.config.foreign.batching_rules import packs
from lora_backend.config.foreign.common_rules import (
    accumulation,
    load_in,
    steps_or_none,
    targets,
    warmup_ratio,
    warmup_steps,
)
from lora_backend.config.foreign.data_sets import dataset
from lora_backend.config.foreign.flat_source import Source
from lora_backend.config.foreign.key_mapping import (
    Carried,
    Rule,
    Tool,
    as_taken,
    expects,
    keys,
    lost,
    mapped,
    number,
    one_to_one,
    table,
    trains_adapter,
)
from lora_backend.config.foreign.tracker_rules import switches
from lora_backend.config.foreign.word_rules import optimizer
from lora_backend.i18n import N_

CHECKPOINTING = N_("`{target}` is {ours}; Unsloth's own way of it is not used here.")
LAST_ONLY = N_(
    "0 writes no checkpoint on the way; here there is one every 500 steps unless `save_steps` says otherwise."
)

ABSENT: dict[str, str | Mapping[str, Any]] = {
    why.DATA: {"data.format_type": "auto", "data.subset": None, "data.train_split": "train", "data.eval_split": None},
    why.ADAPTER: {
        "lora.use_loftq": False, "lora.vision_all_linear": False, "lora.finetune_language_layers": True,
        "lora.finetune_attention_modules": True, "lora.finetune_mlp_modules": True,
    },
    why.PICTURES: {"lora.finetune_vision_layers": True, "audio_type": None, "audio_input": False},
    why.TRACKING: {
        "logging.wandb_project": "unsloth-training",
        "logging.tensorboard_dir": "runs",
    },
    why.SECRET: "logging.wandb_token logging.hf_token",
    why.GENERATION: "inference.temperature inference.top_p inference.top_k inference.min_p inference.repetition_penalty "
    "inference.max_new_tokens inference.trust_remote_code inference.presence_penalty",
    why.REMOTE_CODE: "training.trust_remote_code",
}  # fmt: skip


def _save_steps(source: Source, key: str) -> Carried:
    return lost(LAST_ONLY) if number(source.get(key)) == 0 else as_taken("save_steps", source.get(key))


LORA = (None, "lora", "LoRA", "LoRA/QLoRA")
"""Words of `training_type` for an adapter."""
RULES: dict[str, Rule] = {
    **one_to_one("unsloth"),
    **table(ABSENT),
    "data.dataset": dataset(),
    "data.local_dataset": dataset(),
    "training.training_type": trains_adapter(*LORA, full=("full", "Full", "Full Finetuning")),
    "training.load_in_4bit": load_in(4),
    "training.num_epochs": steps_or_none("num_epochs"),
    "training.gradient_accumulation_steps": accumulation("training.batch_size"),
    "training.warmup_steps": warmup_steps("training.max_steps"),
    "training.warmup_ratio": warmup_ratio("training.warmup_steps"),
    "training.max_steps": steps_or_none("max_steps"),
    "training.save_steps": Rule(_save_steps, ("save_steps",)),
    "training.eval_steps": steps_or_none("eval_steps"),
    "training.packing": packs(),
    "training.optim": optimizer(),
    "training.train_on_completions": expects(why.ONLY_ANSWERS, True),
    "training.gradient_checkpointing": mapped(
        "gradient_checkpointing",
        {
            "unsloth": True,
            "true": True,
            "yes": True,
            True: True,
            "": True,
            "none": False,
            "false": False,
            "no": False,
            False: False,
        },
        CHECKPOINTING,
    ),
    "lora.target_modules": targets(),
    **switches({"logging.enable_wandb": "wandb", "logging.enable_tensorboard": "tensorboard"}),
}


def _defaults(values: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {
        "training.max_seq_length": 2048, "training.num_epochs": 3, "training.learning_rate": 2e-4, "training.batch_size": 2,
        "training.gradient_accumulation_steps": 4, "training.weight_decay": 0.01, "training.random_seed": 3407,
        "training.train_on_completions": False, "training.gradient_checkpointing": "unsloth",
    }  # fmt: skip
    lora = {
        "training.load_in_4bit": True, "lora.lora_r": 64, "lora.lora_alpha": 16, "lora.lora_dropout": 0.0,
        "lora.target_modules": "q_proj,k_proj,v_proj,o_proj,gate_proj,up_proj,down_proj",
    }  # fmt: skip
    if values.get("training.training_type") in LORA:
        found |= lora
    return found | ({} if "training.warmup_ratio" in values else {"training.warmup_steps": 5})


TOOL = Tool(
    id="unsloth",
    title="Unsloth",
    markers=keys(
        "training.max_seq_length training.training_type training.random_seed training.train_on_completions "
        "training.load_in_4bit lora.lora_r lora.lora_alpha lora.use_loftq lora.finetune_vision_layers "
        "lora.finetune_language_layers lora.vision_all_linear data.format_type data.local_dataset"
    ),
    rules=RULES,
    defaults=_defaults,
    sections=frozenset(("data", "training", "lora", "logging", "inference")),
)
