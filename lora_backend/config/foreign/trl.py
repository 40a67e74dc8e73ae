"""TRL's command-line YAML: SFTConfig, ModelConfig and ScriptArguments in one file.

Names and defaults are those of trl 1.16 (`sft_config.py`, `model_config.py`, `scripts/utils.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lora_backend.config.foreign import reasons as why
from lora_backend.config.foreign import training_arguments, trl_keys
from lora_backend.config.foreign.batching_rules import is_flat, packs
from lora_backend.config.foreign.common_rules import load_in, names, precision_flag, stored, targets
from lora_backend.config.foreign.data_sets import dataset, first_of_datasets, other_data_sets
from lora_backend.config.foreign.evaluation import share_of_rows
from lora_backend.config.foreign.flat_source import Source
from lora_backend.config.foreign.key_mapping import (
    UNSET,
    Carried,
    Rule,
    Tool,
    as_taken,
    expects,
    is_off,
    keys,
    lost,
    mapped,
    nothing,
    one_to_one,
    table,
    trains_adapter,
)
from lora_backend.config.foreign.word_rules import attention
from lora_backend.i18n import N_

WITH_DEFAULTS: dict[str, dict[str, Any]] = {
    why.LEARNS: {
        "router_aux_loss_coef": None, "shuffle_dataset": False, "eos_token": None, "pad_token": None,
        "truncation_mode": "keep_start",
    },
    why.MODEL: {"model_init_kwargs": None, "model_revision": "main"},
    why.REMOTE_CODE: {"trust_remote_code": False},
    why.TEMPLATE: {"chat_template_path": None},
    why.DATA: {
        "dataset_text_field": "text", "dataset_kwargs": None, "dataset_config": None, "dataset_train_split": "train",
        "dataset_test_split": "test", "dataset_streaming": False, "streaming": False,
    },
    why.LOADER: {"dataset_num_proc": None, "dataset_batch_size": 1000},
    why.PACKING: {
        "packing_strategy": "bfd", "eval_packing": None,
        "pad_to_multiple_of": "auto",
    },
    why.SPEED: {"activation_offloading": False, "use_liger": False},
    why.ADAPTER: {"lora_target_parameters": None},
    why.QUANTIZED: {"bnb_4bit_quant_type": "nf4", "bnb_4bit_quant_storage": None},
    why.DISTRIBUTED: {"ignore_bias_buffers": False},
    why.EVALUATION: {"gradient_accumulation_steps_eval": None},
}  # fmt: skip


TAKEN_AS = N_("`{target}` is {ours}.")


def _max_length(source: Source, key: str) -> Carried:
    if key in source.values and source.values[key] is None:
        return lost(why.NO_CUT)
    return as_taken("max_length", source.get(key))


def _nested(source: Source, key: str) -> Carried:
    """Double quantization, which is always on here."""
    if is_off(source.get(key)) and not is_off(source.get("load_in_4bit")):
        return lost(why.QUANTIZED)
    return nothing()


def _target_modules(source: Source, key: str) -> Carried:
    """TRL takes a list of one entry out of its list, so that it is a regular expression, or `all-linear`."""
    value = source.get(key)
    one = value[0] if isinstance(value, list) and len(value) == 1 else value
    taken = Source({**source.values, key: one}, source.lines, source.defaults)
    return targets(all_words=("all-linear",), is_expression=True).apply(taken, key)


RULES: dict[str, Rule] = {
    **one_to_one("trl"),
    **training_arguments.RULES,
    **table({**WITH_DEFAULTS}),
    **table(trl_keys.ABSENT),
    **{key: expects(why.METHOD) for key in trl_keys.OTHER_METHODS},
    "packing": packs(),
    "padding_free": is_flat("packing"),
    "dataset_mixture": first_of_datasets(),
    "dataset_mixer": other_data_sets(),
    "dtype": stored(),
    "torch_dtype": stored(),
    "attn_implementation": attention(),
    "use_peft": trains_adapter(True, full=(None, False)),
    "lora_target_modules": Rule(
        _target_modules, ("target_modules",), N_("A list of one entry is a regular expression in TRL.")
    ),
    "lora_modules_to_save": names("modules_to_save"),
    "lora_task_type": expects(why.METHOD, "CAUSAL_LM"),
    "load_in_4bit": load_in(4, "bnb_4bit_quant_type"),
    "load_in_8bit": load_in(8),
    "use_bnb_nested_quant": Rule(_nested, (), why.QUANTIZED),
    "dataset_name": dataset(),
    "datasets": first_of_datasets(),
    "test_split_size": share_of_rows(),
    "max_length": Rule(_max_length, ("max_length",)),
    "max_seq_length": Rule(_max_length, ("max_length",)),
    "completion_only_loss": mapped("train_on", {True: UNSET, False: "everything"}, TAKEN_AS),
    "assistant_only_loss": expects(why.ONLY_ANSWERS, True),
    "bf16": precision_flag("bf16", "fp16", neither="fp32"),
}


def _defaults(values: Mapping[str, Any]) -> dict[str, Any]:
    own = {
        "learning_rate": 2e-5, "gradient_checkpointing": True, "bf16": is_off(values.get("fp16")),
        "assistant_only_loss": False, "use_peft": False,
    }  # fmt: skip
    lora = {"lora_r": 16, "lora_alpha": 32, "lora_dropout": 0.05, "lora_target_modules": None}
    length = {} if "max_seq_length" in values else {"max_length": 1024}
    trains_lora = values.get("use_peft") is True or lora.keys() & values.keys()
    return training_arguments.defaults(values) | own | length | (lora if trains_lora else {})


TOOL = Tool(
    id="trl",
    title="TRL",
    markers=keys(
        "use_peft lora_task_type dataset_name dataset_text_field use_bnb_nested_quant assistant_only_loss dataset_mixture "
        "completion_only_loss packing_strategy dataset_train_split dataset_test_split max_seq_length padding_free "
        "bnb_4bit_quant_type dataset_mixer dataset_splits"
    )
    | trl_keys.OTHER_MARKERS,
    rules=RULES,
    defaults=_defaults,
)
