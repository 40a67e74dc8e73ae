"""What PEFT itself makes of an adapter on a base model, for tests: no line of ours has a part in it."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
from peft import PeftConfig, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from peft.utils import load_peft_weights

FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


def damage_of(base: Any, folder: Path) -> str | None:
    """Why the adapter in `folder` is not whole on `base`; None where it is.

    PEFT refuses it, has missing or unexpected keys, or would not save again what it was given: other names, sizes, values,
    or weights of the base model that were replaced. Of the dtypes the tensors as they are written.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            config = PeftConfig.from_pretrained(str(folder))
            config.inference_mode = False  # so that what belongs to the adapter can be told from the base
            model = get_peft_model(base, config)
            made = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
            written = load_peft_weights(str(folder), device="cpu")
            result = set_peft_model_state_dict(model, written)
            again = get_peft_model_state_dict(model)
        except Exception as error:  # whatever it says: it does not load
            return f"refused: {type(error).__name__}: {error}"
    # With `bias="all"` PEFT saves the biases of a module that is trained whole twice, and drops the second.
    twice = {name for name in written if name.replace(".modules_to_save.bias", ".bias") in written.keys() - {name}}
    unexpected = [name for name in result.unexpected_keys if name not in twice]
    if unexpected:
        return f"unexpected: {unexpected[0]}"
    if missing := made.intersection(result.missing_keys):
        return f"missing: {min(missing)}"
    for name in written.keys() & again.keys():
        if not torch.equal(written[name].to(again[name].dtype), again[name]):
            return f"other values: {name}"
    live = model.state_dict()
    for name in written.keys() - again.keys():
        is_table = "embed" in name or "lm_head" in name  # which PEFT saves too where a model was resized
        if name in live and "lora_" not in name and not is_table:
            return f"replaces a weight of the base model: {name}"
    return _written(written)


def _written(tensors: dict[str, torch.Tensor]) -> str | None:
    halves: dict[str, set[torch.dtype]] = {}
    for name, tensor in tensors.items():
        if tensor.dtype not in FLOATS:
            return f"dtype: {name} {tensor.dtype}"
        halves.setdefault(name.partition(".lora_")[0] if ".lora_" in name else name, set()).add(tensor.dtype)
    mixed = [name for name, dtypes in halves.items() if len(dtypes) > 1]
    return f"dtype: {mixed[0]}" if mixed else None
