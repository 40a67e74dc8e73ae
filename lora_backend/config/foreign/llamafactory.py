"""LLaMA-Factory's YAML: transformers' TrainingArguments and its own arguments for model, data and method.

Names and defaults as in its `hparams/` (model_args.py, data_args.py, finetuning_args.py, generating_args.py), read there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lora_backend.config.foreign import llamafactory_keys, training_arguments
from lora_backend.config.foreign import reasons as why
from lora_backend.config.foreign.data_sets import dataset, folder_of
from lora_backend.config.foreign.evaluation import share_of_rows
from lora_backend.config.foreign.key_mapping import (
    UNSET,
    Carried,
    Rule,
    Tool,
    expects,
    is_off,
    is_on,
    keys,
    lost,
    mapped,
    nothing,
    number,
    table,
    take,
    trains_adapter,
    translated,
)
from lora_backend.config.foreign.shared import QUANT, QUANT_NOTE, names, precision_flag, targets
from lora_backend.config.foreign.source import Source
from lora_backend.config.foreign.writing import Written, yaml_text
from lora_backend.i18n import N_

CHECKPOINTING = N_("`{target}` is {ours}: it is on unless this key turns it off.")
PISSA = N_("`{target}` is {ours}.")
PISSA_WHOLE = N_("PiSSA starts from the whole decomposition here, not from a fast estimate.")
ATTENTION = {"auto": UNSET, "disabled": "eager", "sdpa": "sdpa", "fa2": "flash_attention_2", "fa3": "flash_attention_3"}
"""Word of LLaMA-Factory → word of transformers."""


def _quantization_bit(source: Source, key: str) -> Carried:
    bits = number(source.get(key))
    if bits in (None, 0):
        return nothing(N_("Not set."))
    kind, method = source.get("quantization_type") or "nf4", source.get("quantization_method") or "bnb"
    if method not in ("bnb", "bitsandbytes") or bits not in (4, 8) or (bits == 4 and kind != "nf4"):
        return lost(why.QUANTIZED)
    return translated("quantization", "nf4" if bits == 4 else "int8", QUANT)


def _checkpointing(source: Source, key: str) -> Carried:
    is_kept = is_on(source.get(key)) and not is_on(source.get("gradient_checkpointing"))
    return translated("gradient_checkpointing", not is_kept, CHECKPOINTING)


def _trainers_checkpointing(source: Source, key: str) -> Carried:
    if is_on(source.get(key)):
        return translated("gradient_checkpointing", True, PISSA)
    return nothing(N_("`{key}` decides."), key="disable_gradient_checkpointing")


def _pissa(source: Source, key: str) -> Carried:
    if is_off(source.get(key)):
        return nothing(N_("Off: nothing to carry."))
    return translated("init_lora_weights", "pissa", PISSA)


def _pissa_iterations(source: Source, key: str) -> Carried:
    is_used = is_on(source.get("pissa_init")) and number(source.get(key)) != -1
    return lost(PISSA_WHOLE) if is_used else nothing()


RULES: dict[str, Rule] = {
    **training_arguments.RULES,
    **table(llamafactory_keys.ABSENT),
    **table({**llamafactory_keys.WITH_DEFAULTS}),
    "model_name_or_path": take("model_name"),
    "stage": expects(why.METHOD, "sft"),
    "finetuning_type": trains_adapter(None, "lora", full=("full", "freeze")),
    "lora_rank": take("r"),
    "lora_alpha": take("alpha"),
    "lora_dropout": take("lora_dropout"),
    "lora_target": targets(),
    "additional_target": names("modules_to_save"),
    "use_rslora": take("use_rslora"),
    "use_dora": take("use_dora"),
    "pissa_init": Rule(_pissa, ("init_lora_weights",), PISSA),
    "pissa_iter": Rule(_pissa_iterations, (), PISSA_WHOLE),
    "dataset": dataset("dataset_dir"),
    "dataset_dir": folder_of("dataset"),
    "cutoff_len": take("max_length"),
    "val_size": share_of_rows(),
    "flash_attn": mapped("attn_implementation", ATTENTION, PISSA),
    "quantization_bit": Rule(_quantization_bit, ("quantization",), QUANT_NOTE),
    "quantization_method": expects(why.QUANTIZED, "bnb", "bitsandbytes"),
    "bf16": precision_flag("bf16", "fp16"),
    "fp16": precision_flag("fp16", "bf16"),
    "disable_gradient_checkpointing": Rule(_checkpointing, ("gradient_checkpointing",), CHECKPOINTING),
    "gradient_checkpointing": Rule(_trainers_checkpointing, ("gradient_checkpointing",), PISSA),
    "activation_checkpointing": Rule(_trainers_checkpointing, ("gradient_checkpointing",), PISSA),
}


def _defaults(values: Mapping[str, Any]) -> dict[str, Any]:
    rank = number(values.get("lora_rank")) or 8
    lora = {"lora_rank": 8, "lora_alpha": rank * 2, "lora_dropout": 0.0, "lora_target": "all", "pissa_iter": 16}
    shared = {key: value for key, value in training_arguments.defaults(values).items() if key != "bf16"}
    own = {"cutoff_len": 2048, "disable_gradient_checkpointing": False}
    return shared | own | (lora if values.get("finetuning_type") in (None, "lora") else {})


TOOL = Tool(
    id="llamafactory",
    title="LLaMA-Factory",
    markers=keys(
        "finetuning_type stage lora_rank lora_target cutoff_len quantization_bit dataset_dir template "
        "preprocessing_num_workers flash_attn additional_target pissa_init enable_liger_kernel neat_packing "
        "train_on_prompt mask_history overwrite_cache disable_gradient_checkpointing max_samples"
    ),
    rules=RULES,
    defaults=_defaults,
)
FILE_NAME = "llamafactory.yaml"
_WORDS = {ours: theirs for theirs, ours in ATTENTION.items() if ours is not UNSET}


def write(out: Written) -> str:
    """Our config for `llamafactory-cli train`; its data set has to be an entry of dataset_info.json."""
    out.carry("model_name", model_name_or_path=out["model_name"])
    out.write(stage="sft", do_train=True, finetuning_type="lora")
    _write_adapter(out)
    _write_training(out)
    out.drop(
        "dataset",
        N_("LLaMA-Factory takes a name from its dataset_info.json; enter the file there and name it as `dataset`."),
    )
    for key in ("rank_pattern", "alpha_pattern", "bias", "target_layers"):
        out.drop(key, N_("LLaMA-Factory has no key for it: the adapter will differ."))
    out.drop_rest(N_("LLaMA-Factory has no key for it."))
    return yaml_text(out.lines)


def _write_adapter(out: Written) -> None:
    out.carry("r", lora_rank=out["r"])
    if float(out["alpha"]).is_integer():
        out.carry("alpha", lora_alpha=int(out["alpha"]))
    else:
        out.drop("alpha", N_("LLaMA-Factory takes whole numbers only."))
    out.carry("lora_dropout", lora_dropout=out["lora_dropout"])
    wanted = out["target_modules"]
    if wanted == "all-linear":
        out.carry("target_modules", lora_target="all")
    elif (
        isinstance(wanted, list)
        and wanted
        and all(_is_plain_name(name) and name not in ("all", "all-linear") for name in wanted)
    ):
        out.carry("target_modules", lora_target=",".join(wanted))
    else:
        out.drop("target_modules", N_("LLaMA-Factory takes a list of names, or `all`; no regular expression."))
    saved = out["modules_to_save"]
    if not saved:
        out.carry("modules_to_save")
    elif all(map(_is_plain_name, saved)):
        out.carry("modules_to_save", additional_target=",".join(saved))
    else:
        out.drop("modules_to_save", N_("LLaMA-Factory splits names at commas."))
    for key in ("use_rslora", "use_dora"):
        out.carry(key, **{key: out[key]})
    if out["init_lora_weights"] == "pissa":
        out.carry("init_lora_weights", pissa_init=True, pissa_iter=-1)
    elif out["init_lora_weights"] is True:
        out.carry("init_lora_weights")
    else:
        out.drop("init_lora_weights", N_("LLaMA-Factory has no key for it: the adapter will differ."))


def _is_plain_name(name: str) -> bool:
    return "," not in name and name == name.strip()


def _write_training(out: Written) -> None:
    out.carry("max_length", cutoff_len=out["max_length"])
    out.carry("batch_size", per_device_train_batch_size=out["batch_size"])
    target = out["target_batch_size"] or out["batch_size"]
    out.carry("target_batch_size", gradient_accumulation_steps=max(target // out["batch_size"], 1))
    out.carry("num_epochs", num_train_epochs=float(out["num_epochs"]))
    out.carry_set("max_steps", "max_steps")
    same = "learning_rate lr_scheduler_type warmup_ratio weight_decay optim max_grad_norm seed eval_strategy "
    for key in (same + "output_dir save_steps save_total_limit logging_steps val_size").split():
        out.carry(key, **{key: out[key]})
    out.carry_set("eval_steps", "eval_steps")
    word = out["precision"]
    if word == "fp32":
        out.drop("precision", N_("With neither bf16 nor fp16 LLaMA-Factory takes the precision of the model's files."))
    else:
        out.carry("precision", **({word: True} if word != "auto" else {}))
    out.carry("gradient_checkpointing", disable_gradient_checkpointing=not out["gradient_checkpointing"])
    bits: dict[Any, dict[str, Any]] = {
        "nf4": {"quantization_bit": 4, "quantization_type": "nf4"},
        "int8": {"quantization_bit": 8},
    }
    out.carry("quantization", **bits.get(out["quantization"], {}))
    attention = out["attn_implementation"]
    if attention is None:
        out.carry("attn_implementation")
    elif attention in _WORDS:
        out.carry("attn_implementation", flash_attn=_WORDS[attention])
    else:
        out.drop("attn_implementation", N_("LLaMA-Factory has no equivalent."))
