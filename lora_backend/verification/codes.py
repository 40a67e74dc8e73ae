"""Every warning code of a rank report in one sentence: what it means, and what to do about it."""

from __future__ import annotations

from lora_backend.i18n import N_, Message

CODES = {
    "base_not_compared": N_("The adapter was not compared with a base model: put one on this machine, or load both."),
    "other_base": N_("The adapter was trained on another base model: compare it with that one."),
    "not_in_model": N_(
        "The model has no place for some tensors of the file, so PEFT drops them: check that this is the right base model."
    ),
    "not_from_file": N_(
        "Some adapter parameters of the model are not in the file and stay as they were initialized: save the adapter again, complete."
    ),
    "other_shape": N_("A tensor has another shape than its place in the model: use the base model it was trained on."),
    "other_values": N_("A tensor has other values in the model than in the file: load the adapter again."),
    "unfit_dtype": N_(
        "Some tensors have a dtype that no LoRA has, or that only one half of a layer has: save the adapter again in one floating-point dtype."
    ),
    "overwrites_base": N_(
        "Some tensors would replace weights of the base model that adapter_config.json does not name: delete them from the file, or name their modules in `modules_to_save`."
    ),
    "load_refused": N_("PEFT refuses to load the adapter into this model: the list below says why."),
    "unexpected_layer": N_(
        "There is a LoRA on a layer that the config does not target: add it to `target_modules`, or use the config it was trained with."
    ),
    "unmatched_target": N_("An entry of `target_modules` matches no LoRA layer: check its spelling, or remove it."),
    "missing_layer_index": N_("A block of `target_layers` has no LoRA layer: check the index; blocks count from 0."),
    "unmatched_target_parameter": N_("An entry of `target_parameters` matches no LoRA layer: check its spelling."),
    "unmatched_module_to_save": N_("An entry of `modules_to_save` matches no saved module: check its spelling."),
    "unmatched_rank_pattern": N_("An entry of `rank_pattern` matches no layer and has no effect: fix or remove it."),
    "unmatched_alpha_pattern": N_("An entry of `alpha_pattern` matches no layer and has no effect: fix or remove it."),
    "shadowed_rank_pattern": N_(
        "An entry of `rank_pattern` never counts, because an earlier one always wins: put the narrower one first."
    ),
    "shadowed_alpha_pattern": N_(
        "An entry of `alpha_pattern` never counts, because an earlier one always wins: put the narrower one first."
    ),
    "wrong_value": N_("A value of a config has a type that PEFT cannot use: fix the entry named below."),
    "wrong_scaling": N_(
        "A layer is not scaled as the config asks: compare `alpha`, `alpha_pattern` and `use_rslora` of both configs."
    ),
    "other_dora": N_("The config and adapter_config.json disagree on `use_dora`: use the config it was trained with."),
    "no_magnitude": N_(
        "The adapter is a DoRA, and magnitude vectors are missing, so PEFT makes new ones: save it again, complete."
    ),
    "wrong_magnitude": N_("A DoRA magnitude vector has the wrong size for its layer: save the adapter again."),
    "unexpected_magnitude": N_(
        "The file has DoRA magnitude vectors, which PEFT drops while `use_dora` is off: set `use_dora` in adapter_config.json."
    ),
    "keys_will_not_load": N_(
        "Some tensors have names that PEFT drops silently: save the adapter again with `save_pretrained`."
    ),
    "two_weight_files": N_("There are two weight files, and PEFT reads the safetensors one: delete the other."),
    "sharded": N_("The weights are in shards, which PEFT does not load: save the adapter again in one file."),
    "empty_tensor": N_("Some tensors are empty, like shards that were never gathered: save the full state dict."),
    "flat_tensor": N_("Some tensors have one dimension only, like flattened shards: save the full state dict."),
    "transposed": N_("A and B are transposed or swapped, as MLX writes them: convert the adapter to PEFT's layout."),
    "legacy_merged_linear": N_("This is an old merged linear layer with `enable_lora`; nothing to do."),
    "stale_layer_r": N_("A loaded layer reports another rank than its tensors have: load the adapter again."),
    "zero_padded": N_(
        "Some rows of A are all zero, as after a hot-swap or padding: load the adapter on its own to see its rank."
    ),
    "untrained": N_(
        "No layer changes anything yet: either it was not trained, or nothing was loaded. Check the training log and the tensors' names."
    ),
    "not_finite": N_("Some values are NaN or Inf, so the model's output will be too: use an earlier checkpoint."),
    "A_frozen": N_("B trains and A does not: unfreeze A, unless that is intended."),
    "base_trains": N_("A weight of the base model trains although the config does not ask for it: freeze it."),
    "merged": N_("The adapter is merged into the base model: unmerge it before you train or save it."),
    "meta": N_("Tensors have no values (meta device), so only shapes were checked: load the weights."),
    "partitioned": N_("Tensors are split by ZeRO-3; ranks are read from the whole tensors' shapes. Nothing to do."),
}
UNKNOWN = N_("This warning comes from another version of the program.")


def explained(code: str) -> Message:
    """A warning code in one sentence."""
    return Message(CODES.get(code, UNKNOWN))
