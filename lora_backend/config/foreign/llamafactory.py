"""LLaMA-Factory's YAML: transformers' TrainingArguments and its own arguments for model, data and method.

Names and defaults as in its `hparams/` (model_args.py, data_args.py, finetuning_args.py, generating_args.py), read there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lora_backend.config.foreign import llamafactory_keys, training_arguments
from lora_backend.config.foreign import reasons as why
from lora_backend.config.foreign.batching_rules import packs
from lora_backend.config.foreign.common_rules import QUANT, QUANT_NOTE, names, precision_flag, targets
from lora_backend.config.foreign.data_sets import dataset, folder_of
from lora_backend.config.foreign.evaluation import share_of_rows
from lora_backend.config.foreign.flat_source import Source
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
    one_to_one,
    table,
    trains_adapter,
    translated,
)
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

CHECKPOINTING = N_("`{target}` is {ours}: it is on unless this key turns it off.")
PISSA = N_("`{target}` is {ours}.")
PISSA_WHOLE = N_("PiSSA starts from the full decomposition here, not from a fast estimate.")
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
        return nothing(N_("Off: nothing to carry over."))
    return translated("init_lora_weights", "pissa", PISSA)


def _pissa_iterations(source: Source, key: str) -> Carried:
    is_used = is_on(source.get("pissa_init")) and number(source.get(key)) != -1
    return lost(PISSA_WHOLE) if is_used else nothing()


RULES: dict[str, Rule] = {
    **one_to_one("llamafactory"),
    **training_arguments.RULES,
    **table(llamafactory_keys.ABSENT),
    **table({**llamafactory_keys.WITH_DEFAULTS}),
    "stage": expects(why.METHOD, "sft"),
    "finetuning_type": trains_adapter(None, "lora", full=("full", "freeze")),
    "lora_target": targets(),
    "additional_target": names("modules_to_save"),
    "pissa_init": Rule(_pissa, ("init_lora_weights",), PISSA),
    "pissa_iter": Rule(_pissa_iterations, (), PISSA_WHOLE),
    "dataset": dataset("dataset_dir"),
    "dataset_dir": folder_of("dataset"),
    "val_size": share_of_rows(),
    "train_on_prompt": mapped("train_on", {False: UNSET, True: "everything"}, PISSA),
    "mask_history": mapped("train_on", {False: UNSET, True: "last_answer"}, PISSA),
    "flash_attn": mapped("attn_implementation", ATTENTION, PISSA),
    "quantization_bit": Rule(_quantization_bit, ("quantization",), QUANT_NOTE),
    "packing": packs(),
    "neat_packing": packs(),
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


NOT_KNOWN = N_("LLaMA-Factory has no key for it.")
OF_THE_ADAPTER = N_("LLaMA-Factory has no key for it: the adapter will differ.")


def _model(out: Written, key: str) -> None:
    out.carry(key, model_name_or_path=out[key])
    out.write(stage="sft", do_train=True, finetuning_type="lora")


def _targets(out: Written, key: str) -> None:
    wanted = out[key]
    is_list_of_names = isinstance(wanted, list) and wanted and all(map(_is_plain_name, wanted))
    if wanted == "all-linear":
        out.carry(key, lora_target="all")
    elif is_list_of_names and not {"all", "all-linear"} & set(wanted):
        out.carry(key, lora_target=",".join(wanted))
    else:
        out.drop(key, N_("LLaMA-Factory takes a list of names or `all`, but no regular expression."))


def _saved(out: Written, key: str) -> None:
    saved = out[key]
    if not saved:
        out.carry(key)
    elif all(map(_is_plain_name, saved)):
        out.carry(key, additional_target=",".join(saved))
    else:
        out.drop(key, N_("LLaMA-Factory splits names at commas."))


def _is_plain_name(name: str) -> bool:
    return "," not in name and name == name.strip()


def _start(out: Written, key: str) -> None:
    if out[key] == "pissa":
        out.carry(key, pissa_init=True, pissa_iter=-1)
    elif out[key] is True:
        out.carry(key)
    else:
        out.drop(key, OF_THE_ADAPTER)


def _precision(out: Written, key: str) -> None:
    word = out[key]
    if word == "fp32":
        out.drop(key, N_("With neither bf16 nor fp16, LLaMA-Factory uses the precision of the model's files."))
    else:
        out.carry(key, **({word: True} if word != "auto" else {}))


def _kernel(out: Written, key: str) -> None:
    word = out[key]
    if word is None or word in _WORDS:
        out.carry(key, **({} if word is None else {"flash_attn": _WORDS[word]}))
    else:
        out.drop(key, N_("LLaMA-Factory has no equivalent."))


def _figure(out: Written, key: str) -> None:
    if str(out[key]).endswith("accuracy"):
        out.drop(key, N_("LLaMA-Factory does not compute this metric and uses the loss instead."))
    else:
        out.carry_as(key, key)


WRITES: dict[str, Write] = {
    "train_on": worded({"last_answer": {"mask_history": True}, "everything": {"train_on_prompt": True}}),
    "model_name": _model,
    "dataset": dropped(N_("LLaMA-Factory expects a name from its dataset_info.json. Add the file there, then use its name as `dataset`.")),
    "quantization": worded({"nf4": {"quantization_bit": 4, "quantization_type": "nf4"}, "int8": {"quantization_bit": 8}}),
    "attn_implementation": _kernel,
    "alpha": whole("lora_alpha", N_("LLaMA-Factory takes whole numbers only.")),
    "target_modules": _targets,
    "modules_to_save": _saved,
    "init_lora_weights": _start,
    **dict.fromkeys(("rank_pattern", "alpha_pattern", "bias", "target_layers"), dropped(OF_THE_ADAPTER)),
    "num_epochs": lambda out, key: out.carry(key, num_train_epochs=float(out[key])),
    "target_batch_size": accumulation_steps,
    "precision": _precision,
    "load_best_model_at_end": best_at_end,
    "metric_for_best_model": _figure,
    "gradient_checkpointing": lambda out, key: out.carry(key, disable_gradient_checkpointing=not out[key]),
}  # fmt: skip
"""What stands otherwise in LLaMA-Factory's file; all other keys that it knows stand there under its name for them."""


def write(out: Written) -> str:
    """Our config for `llamafactory-cli train`; its data set has to be an entry of dataset_info.json."""
    write_keys(out, "llamafactory", WRITES, NOT_KNOWN)
    return yaml_text(out.lines)
