"""Tensors of an adapter's file that stand beside its LoRA: whether its config names them, or they replace the base model's."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from typing import Any

from lora_backend.verification.adapter_folder import PEFT_PREFIX
from lora_backend.verification.coverage import as_tuple
from lora_backend.verification.differences import Difference
from lora_backend.verification.shapes import block_of

NOT_THE_BASES = ("lora_", "trainable_tokens", "token_adapter")


def is_inside(name: str, entry: str) -> bool:
    """Whether a tensor is part of a module that an entry of `modules_to_save` names: one whose name ends so.

    PEFT: `_set_trainable` in peft/utils/other.py; `norm` is `input_layernorm` too.
    """
    return f"{entry}." in name


def is_second_copy(name: str, names: Container[str]) -> bool:
    """Whether it is a bias of a module that is trained whole, which the file has under its plain name too.

    With `bias: all` PEFT saves those twice, and drops the second when it loads.
    """
    plain = name.replace(".modules_to_save.", ".").replace(".original_module.", ".")
    return name.endswith(".bias") and plain != name and plain in names


def overwritten(
    shapes: Mapping[str, tuple[int, ...]], config: Mapping[str, Any], known: Iterable[Difference]
) -> list[Difference]:
    """The tensors of a file, but those that differ by `known`, which PEFT loads into the base model itself.

    PEFT loads by name alone, so a weight of the base model in the file takes the place of the model's without a word.
    Biases and modules that the config names are meant so, and embeddings and heads, which PEFT saves of a resized model.
    """
    if config.get("task_type") not in (None, "CAUSAL_LM"):  # has a new head of its own
        return []
    named, saved = {item.name for item in known}, tuple(map(str, as_tuple(config.get("modules_to_save"))))
    has_biases = config.get("bias") in ("all", "lora_only")
    found = []
    for key, shape in shapes.items():
        name = key.removeprefix(PEFT_PREFIX)
        if name == key or name in named or any(part in name for part in NOT_THE_BASES):
            continue
        is_table = len(shape) == 2 and block_of(name) is None
        is_asked = any(is_inside(name, entry) for entry in saved) or (has_biases and name.endswith(".bias"))
        if not (is_table or is_asked):
            found.append(Difference("overwrites_base", name, None, shape))
    return found
