"""axolotl's YAML; names and defaults as in its `utils/schemas/` and, for the warm-up, its trainer builder, read there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lora_backend.config.foreign import axolotl_keys, training_arguments
from lora_backend.config.foreign import reasons as why
from lora_backend.config.foreign.batching_rules import by_length, is_flat, packs
from lora_backend.config.foreign.common_rules import (
    NO_TARGETS,
    TARGETS,
    accumulation,
    load_in,
    names,
    pattern,
    precision_flag,
    steps_or_none,
    targets,
    total_batch,
    warmup_ratio,
    warmup_steps,
)
from lora_backend.config.foreign.data_sets import first_of_datasets, other_data_sets
from lora_backend.config.foreign.evaluation import metric, save_strategy, share_of_rows, steps_or_share
from lora_backend.config.foreign.flat_source import Source
from lora_backend.config.foreign.key_mapping import (
    UNSET,
    Carried,
    Rule,
    Tool,
    absent,
    is_off,
    is_on,
    keys,
    lost,
    mapped,
    nothing,
    number,
    one_to_one,
    table,
    take,
    trains_adapter,
    translated,
)
from lora_backend.config.foreign.tracker_rules import switches, write_switches
from lora_backend.config.foreign.word_rules import attention, optimizer
from lora_backend.config.foreign.writing import (
    Write,
    Written,
    accumulation_steps,
    best_at_end,
    dropped,
    whole,
    worded,
    write_keys,
    yaml_text,
)
from lora_backend.i18n import N_

IS = N_("`{target}` is {ours}.")
ONCE_AN_EPOCH = N_("Once per epoch: `{target}` is {ours}.")
NOT_SO_OFTEN = N_(
    "`{target}` is {ours}: once per epoch, not {times} times, because the file does not say how many steps an epoch has."
)
OFFLOADED = N_("`{target}` is {ours}; nothing is moved to host memory here.")
LINEAR = N_("`{target}` is {ours}.")


def _attention(word: str) -> Rule:
    def apply(source: Source, key: str) -> Carried:
        return (
            translated("attn_implementation", word, IS)
            if is_on(source.get(key))
            else nothing(N_("Off: nothing to carry over."))
        )

    return Rule(apply, ("attn_implementation",), IS)


def _linear(source: Source, key: str) -> Carried:
    if is_on(source.get(key)):
        return translated("target_modules", "all-linear", LINEAR)
    return nothing(N_("Off: nothing to carry over.")) if source.get("lora_target_modules") else lost(NO_TARGETS)


def _modules(source: Source, key: str) -> Carried:
    if is_on(source.get("lora_target_linear")):  # axolotl adds the two together, and all is all
        return nothing(N_("`{key}` is also set and takes precedence."), key="lora_target_linear")
    return targets(all_words=("all-linear",), is_expression=True).apply(source, key)


def _evals_per_epoch(source: Source, key: str) -> Carried:
    times = number(source.get(key))
    if is_off(source.get(key)) or is_off(source.get("val_set_size")):
        return nothing(N_("No rows are held out, or no evaluation is asked for, so nothing is evaluated."))
    if times == 1:
        return translated("eval_strategy", "epoch", ONCE_AN_EPOCH)
    return translated("eval_strategy", "epoch", NOT_SO_OFTEN, times=source.get(key))


def _eval_strategy(source: Source, key: str) -> Carried:
    if source.get("evals_per_epoch"):  # its steps are made of that
        return nothing(N_("`{key}` is also set and takes precedence."), key="evals_per_epoch")
    return take("eval_strategy").apply(source, key)


TRACKERS = {
    "use_wandb": "wandb", "use_mlflow": "mlflow", "use_tensorboard": "tensorboard", "use_trackio": "trackio",
}  # fmt: skip
"""Switch → the tracker that it turns on."""


RULES: dict[str, Rule] = {
    **one_to_one("axolotl"),
    **{key: rule for key, rule in training_arguments.RULES.items() if not rule.targets},
    **table(axolotl_keys.ABSENT),
    **table({**axolotl_keys.WITH_DEFAULTS}),
    **switches(TRACKERS),
    "adapter": trains_adapter("lora", "qlora", full=(None, "")),
    "load_in_4bit": load_in(4),
    "load_in_8bit": load_in(8),
    "lora_target_linear": Rule(_linear, ("target_modules",), LINEAR),
    "lora_target_modules": Rule(_modules, ("target_modules",), TARGETS),
    "lora_modules_to_save": names("modules_to_save"),
    "lora_rank_pattern": pattern("rank_pattern"),
    "lora_alpha_pattern": pattern("alpha_pattern"),
    "datasets": first_of_datasets(),
    "test_datasets": other_data_sets(),
    "pretraining_dataset": other_data_sets(why.METHOD),
    "gradient_accumulation_steps": accumulation("micro_batch_size"),
    "batch_size": total_batch("micro_batch_size"),
    "train_on_inputs": mapped("train_on", {False: UNSET, True: "everything"}, LINEAR),
    "max_steps": steps_or_none("max_steps"),
    "warmup_steps": warmup_steps(),
    "warmup_ratio": warmup_ratio(),
    "optimizer": optimizer(),
    "sample_packing": packs(),
    "batch_flattening": is_flat("sample_packing"),
    "group_by_length": by_length(True),
    "noisy_embedding_alpha": take("neftune_noise_alpha"),
    "torch_compile": mapped("torch_compile", {True: True, False: False, "auto": UNSET}, IS),
    "gradient_clipping": absent(why.DISTRIBUTED),
    "bf16": precision_flag("bf16", "fp16", neither="fp32"),
    "fp16": precision_flag("fp16", "bf16"),
    "bfloat16": absent(why.STORED),
    "float16": absent(why.STORED),
    "float32": absent(why.STORED),
    "gradient_checkpointing": mapped(
        "gradient_checkpointing",
        {True: True, False: False, "true": True, "offload": True, "offload_disk": True, "unsloth": True},
        OFFLOADED,
    ),
    "attn_implementation": attention(),
    "flash_attention": _attention("flash_attention_2"),
    "sdp_attention": _attention("sdpa"),
    "eager_attention": _attention("eager"),
    "val_set_size": share_of_rows(),
    "eval_strategy": Rule(_eval_strategy, ("eval_strategy",)),
    "evaluation_strategy": Rule(_eval_strategy, ("eval_strategy",)),
    "eval_steps": steps_or_share("eval_steps"),
    "evals_per_epoch": Rule(_evals_per_epoch, ("eval_strategy",), ONCE_AN_EPOCH),
    "save_strategy": save_strategy(),
    "metric_for_best_model": metric(),
    "save_steps": steps_or_share("save_steps"),
    "logging_steps": steps_or_share("logging_steps"),
}


def _defaults(values: Mapping[str, Any]) -> dict[str, Any]:
    found = {
        "adapter": None, "micro_batch_size": 1, "gradient_accumulation_steps": 1, "num_epochs": 1.0, "lr_scheduler": "cosine",
        "sequence_len": 512, "bf16": "auto", "weight_decay": 0.0,
    }  # fmt: skip
    if values.get("adapter"):
        found |= {"lora_dropout": 0.0, "lora_target_linear": None}
    if values.get("warmup_steps") is None and values.get("warmup_ratio") is None:
        found["warmup_ratio"] = 0.03
    if values.get("eval_strategy") == "steps" and not values.get("evals_per_epoch"):
        found["eval_steps"] = values.get("logging_steps") or 500
    if values.get("eval_steps") is not None and not is_off(values.get("val_set_size")):
        found["eval_strategy"] = "steps"
    if values.get("batch_size") is not None:
        del found["gradient_accumulation_steps"]
    return found


TOOL = Tool(
    id="axolotl",
    title="axolotl",
    markers=keys(
        "base_model micro_batch_size sequence_len val_set_size lora_target_linear sample_packing dataset_prepared_path "
        "adapter pad_to_sequence_len flash_attention lr_scheduler saves_per_epoch evals_per_epoch peft_use_dora "
        "peft_layers_to_transform train_on_inputs"
    ),
    rules=RULES,
    defaults=_defaults,
)
FILE_NAME = "axolotl.yaml"
CHATS = N_("The file could not be opened. It is written as `type: chat_template`, which only fits rows of `messages`.")


NOT_KNOWN = N_("axolotl has no key for it.")


def _model(out: Written, key: str) -> None:
    out.carry(key, base_model=out[key])
    out.write(adapter="qlora" if out["quantization"] == "nf4" else "lora")


def _dataset(out: Written, key: str) -> None:
    """axolotl renders a prompt by the format that is given for it: here as it stands, before the completion."""
    path = out[key]
    if path is None:
        out.carry(key)
    elif not path.lower().endswith((".jsonl", ".json")):
        out.drop(key, N_("axolotl recognizes files by their extension; name it .jsonl."))
    elif out.row_format not in (None, "messages", "prompt_completion") or out["data_columns"]:
        out.drop(
            key,
            N_(
                "axolotl renders rows of this form differently; keep them as `messages`, or as `prompt` and `completion`."
            ),
        )
    elif out.row_format == "prompt_completion":
        fields = {"field_instruction": "prompt", "field_output": "completion"}
        kind = {"system_prompt": "", **fields, "format": "{instruction}", "no_input_format": "{instruction}"}
        out.carry(key, datasets=[{"path": path, "ds_type": "json", "type": kind}])
    else:
        entries = [{"path": path, "ds_type": "json", "type": "chat_template"}]
        if out.row_format == "messages":
            out.carry(key, datasets=entries)
        else:
            out.guess(key, CHATS, datasets=entries)


def _targets(out: Written, key: str) -> None:
    if out[key] == "all-linear":
        out.carry(key, lora_target_linear=True)
    else:
        out.carry(key, lora_target_modules=out[key])


def _eval_steps(out: Written, key: str) -> None:
    if out["eval_strategy"] == "steps":
        out.carry_as(key, "eval_steps")
    else:
        out.drop(key, N_("axolotl refuses it without `eval_strategy: steps`."))


def _kernel(out: Written, key: str) -> None:
    if out[key] == "flash_attention_4":
        out.drop(key, N_("axolotl has no equivalent."))
    else:
        out.carry_as(key, "attn_implementation")


def _train_on(out: Written, key: str) -> None:
    if out[key] == "last_answer":
        out.drop(key, NOT_KNOWN)
    else:
        out.carry(key, **({"train_on_inputs": True} if out[key] == "everything" else {}))


WRITES: dict[str, Write] = {
    "model_name": _model,
    "train_on": _train_on,
    "quantization": worded({"nf4": {"load_in_4bit": True}, "int8": {"load_in_8bit": True}}),
    "dataset": _dataset,
    "alpha": whole("lora_alpha", N_("axolotl takes whole numbers only.")),
    "target_modules": _targets,
    "bias": dropped(N_("axolotl has no key for it: the adapter will differ.")),
    "target_batch_size": accumulation_steps,
    "precision": worded(
        {"auto": {"bf16": "auto"}, "bf16": {"bf16": True}, "fp16": {"fp16": True, "bf16": False}},
        {"bf16": False, "fp16": False},
    ),
    "eval_steps": _eval_steps,
    "load_best_model_at_end": best_at_end,
    "report_to": write_switches(TRACKERS),
    **dict.fromkeys(("metric_for_best_model", "greater_is_better"), dropped(NOT_KNOWN)),
    "attn_implementation": _kernel,
}
"""What stands otherwise in axolotl's file; all other keys that it knows stand there under its name for them."""


def write(out: Written) -> str:
    """Our config for `axolotl train`."""
    write_keys(out, "axolotl", WRITES, NOT_KNOWN)
    return yaml_text(out.lines)
