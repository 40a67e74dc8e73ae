"""PEFT's adapter_config.json of a LoRA adapter; names and defaults are those of peft 0.21.2 (`tuners/lora/config.py`)."""

from __future__ import annotations

import json
from typing import Any

from lora_backend.config.foreign import reasons as why
from lora_backend.config.foreign.common_rules import TARGETS, names, pattern, targets
from lora_backend.config.foreign.flat_source import Source
from lora_backend.config.foreign.key_mapping import (
    Carried,
    Rule,
    Tool,
    absent,
    as_taken,
    expects,
    keys,
    nothing,
    one_to_one,
    table,
    translated,
)
from lora_backend.config.foreign.writing import Write, Written, write_keys
from lora_backend.config.key_queries import names_in
from lora_backend.i18n import N_

ABSENT: dict[str, dict[str, Any]] = {
    why.ADAPTER: {
        "exclude_modules": None, "fan_in_fan_out": False, "layers_pattern": None, "megatron_config": None,
        "trainable_token_indices": None, "loftq_config": {}, "eva_config": None, "corda_config": None,
        "lora_ga_config": None, "velora_config": None, "alora_invocation_tokens": None, "use_qalora": False,
        "monteclora_config": None, "layer_replication": None, "lora_bias": False, "target_parameters": None,
        "use_bdlora": None, "arrow_config": None, "kasa_config": None, "ensure_weight_tying": False,
    },
}  # fmt: skip
RECORDED = "auto_mapping peft_version revision inference_mode megatron_core qalora_group_size runtime_config"
"""Fields that say how the file came about, or that only another field makes use of."""


def _layers(source: Source, key: str) -> Carried:
    value = source.get(key)
    if value is None:
        return nothing(N_("Not set: all blocks."))
    return translated("target_layers", [value], TARGETS) if isinstance(value, int) else as_taken("target_layers", value)


def _record() -> Rule:
    return Rule(lambda source, key: nothing(why.RECORD), (), why.RECORD)


RULES: dict[str, Rule] = {
    **one_to_one("peft"),
    **table({**ABSENT}),
    **{name: _record() for name in RECORDED.split()},
    "peft_type": expects(why.METHOD, "LORA"),
    "task_type": expects(why.METHOD, "CAUSAL_LM"),
    "target_modules": targets(all_words=("all-linear",), is_expression=True),
    "layers_to_transform": Rule(_layers, ("target_layers",)),
    "rank_pattern": pattern("rank_pattern"),
    "alpha_pattern": pattern("alpha_pattern"),
    "modules_to_save": names("modules_to_save"),
    "enable_lora": absent(why.ADAPTER),
    "merge_weights": absent(why.ADAPTER),
}

TOOL = Tool(
    id="peft",
    title="PEFT adapter_config.json",
    markers=keys(
        "peft_type base_model_name_or_path layers_to_transform fan_in_fan_out inference_mode auto_mapping "
        "layers_pattern loftq_config megatron_core exclude_modules"
    ),
    rules=RULES,
    defaults=lambda values: {"r": 8, "lora_alpha": 8, "lora_dropout": 0.0, "target_modules": None},
)
FILE_NAME = "adapter_config.json"


_EMPTY: dict[str, Any] = {"rank_pattern": {}, "alpha_pattern": {}}
"""What PEFT writes for none."""


def write(out: Written) -> str:
    """The adapter of our config as PEFT reads it back, unset keys too; the training has no place in it."""
    out.write(peft_type="LORA", task_type="CAUSAL_LM", inference_mode=False)
    named = {ours: _writes(theirs) for ours, theirs in names_in("peft").items()}
    write_keys(out, "peft", named, N_("adapter_config.json describes an adapter, not its training."))
    return json.dumps(out.lines, indent=2, ensure_ascii=False) + "\n"


def _writes(theirs: str) -> Write:
    return lambda out, key: out.carry(key, **{theirs: out[key] or _EMPTY.get(key, out[key])})
