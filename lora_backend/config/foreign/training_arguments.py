"""transformers' TrainingArguments as JSON, and the keys that LLaMA-Factory and TRL have from it.

Names and defaults are those of transformers 5.23 (`training_args.py`); names that older versions had are listed apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lora_backend.config.foreign import reasons as why
from lora_backend.config.foreign.batching_rules import by_length
from lora_backend.config.foreign.common_rules import (
    accumulation,
    any_of,
    precision_flag,
    steps_or_none,
    stored,
    warmup_ratio,
    warmup_steps,
)
from lora_backend.config.foreign.data_sets import dataset
from lora_backend.config.foreign.evaluation import metric, save_strategy, steps_or_share
from lora_backend.config.foreign.flat_source import Source
from lora_backend.config.foreign.key_mapping import (
    Carried,
    Rule,
    Tool,
    absent,
    expects,
    is_off,
    is_on,
    keys,
    lost,
    nothing,
    one_to_one,
    table,
    take,
    translated,
)
from lora_backend.config.foreign.tracker_rules import trackers
from lora_backend.config.foreign.word_rules import attention, optimizer
from lora_backend.i18n import N_

ABSENT: dict[str, dict[str, Any]] = {
    why.LEARNS: {
        "lr_scheduler_kwargs": None, "optim_args": None, "optim_target_modules": None, "adam_beta1": 0.9,
        "adam_beta2": 0.999, "adam_epsilon": 1e-8,
        "average_tokens_across_devices": True, "auto_find_batch_size": False, "data_seed": None,
        "length_column_name": "length", "dataloader_drop_last": False,
    },
    why.SPEED: {
        "tf32": None, "activation_checkpointing_kwargs": None, "gradient_checkpointing_kwargs": None,
        "torch_compile_backend": None, "torch_compile_mode": None, "use_liger_kernel": False,
        "liger_kernel_config": None, "use_cache": False, "torch_empty_cache_steps": None, "full_determinism": False,
        "debug": "", "skip_memory_metrics": True,
    },
    why.LOADER: {
        "dataloader_num_workers": 0, "dataloader_pin_memory": True, "dataloader_persistent_workers": False,
        "dataloader_prefetch_factor": None, "dataloader_multiprocessing_context": None, "dataloader_in_order": True,
        "remove_unused_columns": True, "label_names": None,
    },
    why.DISTRIBUTED: {
        "local_rank": -1, "ddp_find_unused_parameters": None, "ddp_bucket_cap_mb": None, "ddp_broadcast_buffers": None,
        "ddp_static_graph": None, "ddp_backend": None, "ddp_timeout": 1800, "fsdp": None, "fsdp_config": None,
        "deepspeed": None, "accelerator_config": None, "parallelism_config": None, "use_cpu": False,
        "log_on_each_node": True, "save_on_each_node": False,
    },
    why.EVALUATION: {
        "eval_delay": 0, "per_device_eval_batch_size": 8, "prediction_loss_only": False, "eval_on_start": False,
        "eval_do_concat_batches": True, "eval_use_gather_object": False, "eval_accumulation_steps": None,
        "include_for_metrics": None, "batch_eval_metrics": False, "bf16_full_eval": False, "fp16_full_eval": False,
        "do_eval": False,
    },
    why.SAVING: {"save_only_model": False, "enable_jit_checkpoint": False},
    why.LOGGING: {
        "logging_strategy": "steps", "logging_first_step": False, "logging_nan_inf_filter": True,
        "include_num_input_tokens_seen": "no", "log_level": "passive", "log_level_replica": "warning",
        "disable_tqdm": None,
    },
    why.TRACKING: {
        "run_name": None, "project": "huggingface", "trackio_space_id": None,
        "trackio_bucket_id": None, "trackio_static_space_id": None,
    },
    why.HUB: {
        "push_to_hub": False, "hub_private_repo": None, "hub_model_id": None, "hub_strategy": "every_save",
        "hub_always_push": False, "hub_revision": None,
    },
    why.SECRET: {"hub_token": None},
    why.GENERATION: {"do_predict": False},
    why.RESUME: {
        "resume_from_checkpoint": None, "ignore_data_skip": False, "restore_callback_states_from_checkpoint": False,
    },
}  # fmt: skip
"""Reason → field → default in transformers, for what has no counterpart."""

OLDER: dict[str, str | Mapping[str, Any]] = {
    why.LEARNS: "adafactor",
    why.SPEED: "jit_mode_eval use_ipex torchdynamo half_precision_backend fp16_backend fp16_opt_level use_mps_device",
    why.LOADER: "past_index",
    why.DISTRIBUTED: "no_cuda sharded_ddp fsdp_min_num_params fsdp_transformer_layer_cls_to_wrap mp_parameters ray_scope "
    "dispatch_batches split_batches tpu_num_cores tpu_metrics_debug xpu_backend _n_gpu",
    why.EVALUATION: "include_inputs_for_metrics evaluate_during_training per_gpu_eval_batch_size",
    why.SAVING: {"save_safetensors": True, "overwrite_output_dir": False},
    why.LOGGING: {"logging_dir": None, "include_tokens_per_second": False},
    why.HUB: "push_to_hub_model_id push_to_hub_organization",
    why.SECRET: "push_to_hub_token",
    why.GENERATION: "predict_with_generate generation_max_length generation_num_beams generation_config sortish_sampler",
}
"""Fields of older versions, and of Seq2SeqTrainingArguments."""

ACCELERATOR = {
    "split_batches": False, "dispatch_batches": None, "even_batches": True, "use_seedable_sampler": True,
    "non_blocking": False, "gradient_accumulation_kwargs": None,
}  # fmt: skip
"""What transformers writes for the default of `accelerator_config`."""


def _token(source: Source, key: str) -> Carried:
    """transformers writes `<HUB_TOKEN>` in the place of every token, of none as well."""
    value = source.get(key)
    return nothing(N_("Not set.")) if is_off(value) or str(value).startswith("<") else lost(why.SECRET)


RULES: dict[str, Rule] = {
    **one_to_one("training_arguments"),
    **table({**ABSENT}),
    **table(OLDER),
    "per_gpu_train_batch_size": take("batch_size"),
    "gradient_accumulation_steps": accumulation("per_device_train_batch_size"),
    "group_by_length": by_length(True),
    "train_sampling_strategy": by_length("group_by_length", "random"),
    "max_steps": steps_or_none("max_steps"),
    "warmup_steps": warmup_steps(),
    "warmup_ratio": warmup_ratio(),
    "optim": optimizer(),
    "bf16": precision_flag("bf16", "fp16", neither="fp32"),
    "fp16": precision_flag("fp16", "bf16"),
    "gradient_checkpointing": any_of("gradient_checkpointing", "gradient_checkpointing", "activation_checkpointing"),
    "activation_checkpointing": any_of("gradient_checkpointing", "gradient_checkpointing", "activation_checkpointing"),
    "logging_steps": steps_or_share("logging_steps"),
    "evaluation_strategy": take("eval_strategy"),
    "metric_for_best_model": metric(),
    "report_to": trackers(),
    "eval_steps": steps_or_share("eval_steps"),
    "save_strategy": save_strategy(),
    "save_steps": steps_or_share("save_steps"),
    "accelerator_config": absent(why.DISTRIBUTED, ACCELERATOR),
    "hub_token": Rule(_token, (), why.SECRET),
    "do_train": expects(why.METHOD, True, False),
}

DEFAULTS: dict[str, Any] = {
    "per_device_train_batch_size": 8,
    "num_train_epochs": 3.0,
    "learning_rate": 5e-5,
    "lr_scheduler_type": "linear",
    "warmup_steps": 0,
    "weight_decay": 0.0,
    "max_grad_norm": 1.0,
    "gradient_accumulation_steps": 1,
    "bf16": False,
    "seed": 42,
}
"""What decides the training, where ours may be another default."""

LOADED = N_("The model is loaded and trained in this format: `{target}` is {ours}.")
NO_ADAPTER = N_(
    "The file names no adapter: unless its script adds one, the model's own weights are trained. Here a LoRA adapter is trained; check `r` and `learning_rate`."
)


def _adapter(source: Source, key: str) -> Carried:
    return lost(NO_ADAPTER if source.get(key) is None else why.ADAPTER)


def _loaded(source: Source, key: str) -> Carried:
    """Without mixed precision the model computes in the format that it is loaded in."""
    value = source.get(key)
    word = {"bfloat16": "bf16", "float16": "fp16"}.get(str(value).removeprefix("torch."))
    is_mixed = any(is_on(source.values.get(flag)) for flag in ("bf16", "fp16"))
    return translated("precision", word, LOADED) if word and not is_mixed else stored().apply(source, key)


SCRIPT: dict[str, Rule] = {
    "model_name_or_path": take("model_name"),
    "torch_dtype": Rule(_loaded, ("precision",), LOADED),
    "dtype": Rule(_loaded, ("precision",), LOADED),
    "attn_implementation": attention(),
    "train_file": dataset(),
    "peft_config": Rule(_adapter, (), NO_ADAPTER, unwritten=N_("{meaning}")),
    **table(
        {
            why.DATA: "validation_file validation_split_percentage",
            why.ROWS: "max_train_samples max_eval_samples",
            why.TOKENIZER: "tokenizer_name",
            why.MODEL: {"config_name": None, "config_overrides": None, "model_revision": "main"},
            why.REMOTE_CODE: "trust_remote_code",
            why.SECRET: "use_auth_token",
        }
    ),
}
"""What transformers' own scripts read beside TrainingArguments (`examples/pytorch/`)."""


def defaults(values: Mapping[str, Any]) -> dict[str, Any]:
    """What is taken for keys that are not in the file; rows are evaluated as often as logged, unless it says how often."""
    if values.get("eval_strategy", values.get("evaluation_strategy")) != "steps":
        return DEFAULTS
    return DEFAULTS | {"eval_steps": values.get("logging_steps") or 500}


_OF_ADAPTERS = keys("r alpha target_modules target_layers lora_dropout")
"""Keys of ours that speak of an adapter; whoever writes them means to train one."""

TOOL = Tool(
    id="training_arguments",
    title="transformers TrainingArguments",
    markers=keys(
        "per_device_train_batch_size per_device_eval_batch_size num_train_epochs logging_first_step logging_strategy "
        "ddp_backend eval_accumulation_steps label_smoothing_factor prediction_loss_only "
        "bf16_full_eval fp16_full_eval log_level_replica torch_empty_cache_steps model_name_or_path"
    ),
    rules={**RULES, **SCRIPT},
    defaults=lambda values: defaults(values) | ({} if _OF_ADAPTERS & values.keys() else {"peft_config": None}),
)
