"""Whether an adapter can stand beside its base model in one copy of the weights: refused by name where it cannot.

Columns share one base model, so an adapter that changes it, and not only adds to it, would change every other column.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lora_backend.errors import ModelError
from lora_backend.expressions.question import Question
from lora_backend.i18n import N_, Message
from lora_backend.models.find import find_model
from lora_backend.verification.adapter_folder import (
    PEFT_PREFIX,
    is_pickled,
    read_adapter_config,
    read_adapter_folder,
)
from lora_backend.verification.against_base import compare_with_base
from lora_backend.verification.base_words import WHAT_DIFFERS
from lora_backend.verification.beside import NOT_THE_BASES, is_inside
from lora_backend.verification.coverage import as_tuple
from lora_backend.verification.other_base import FindBase, other_base
from lora_backend.verification.shapes import canonical_name
from lora_backend.verification.start_adapter import TAKES_FROM_BASE

CHANGES_BASE = (*TAKES_FROM_BASE, "loftq")
"""Beginnings of `init_lora_weights` with which PEFT changes the base model's weights when it loads the adapter."""
CHANGES_LAYERS = ("layer_replication", "alora_invocation_tokens", "arrow_config")
"""Keys of an adapter with which the model itself computes in another way."""


def refuse_unshareable(label: str, folder: Path, base: Path, name: str, find_base: FindBase = find_model) -> None:
    """Raise `ModelError` for an adapter that cannot answer beside others on `base`, whose `name` is what was asked for."""
    own = read_adapter_config(folder)
    if own is None:
        raise _refused(label, Message(N_("{path} contains no adapter_config.json."), {"path": str(folder)}))
    _refuse_by_config(label, own)
    made_on = other_base(folder, base, name, own.get("base_model_name_or_path"), find_base)
    if made_on is not None:
        raise ModelError(
            N_(
                "{label} was trained on {other}, but this chat uses {base}. Choose adapters of the same base model, or start another chat."
            ),
            label=label,
            other=made_on,
            base=name,
        )
    if not is_pickled(folder):
        _refuse_by_tensors(label, folder, own, base)


def _refuse_by_config(label: str, own: dict[str, Any]) -> None:
    kind = str(own.get("peft_type") or "–")
    if kind != "LORA":
        raise _refused(label, Message(N_("it is not a LoRA (its `peft_type` is {kind})."), {"kind": kind}))
    word = str(own.get("init_lora_weights")).lower()
    if word.startswith(CHANGES_BASE):
        said = N_("its `init_lora_weights: {word}` changes the base model's weights.")
        raise _refused(label, Message(said, {"word": word}))
    bias = own.get("bias") or "none"
    if bias != "none":
        raise _refused(label, Message(N_("its `bias: {bias}` replaces the base model's biases."), {"bias": str(bias)}))
    for key in CHANGES_LAYERS:
        if own.get(key):
            raise _refused(label, Message(N_("its `{key}` changes how the base model computes."), {"key": key}))


def _refuse_by_tensors(label: str, folder: Path, own: dict[str, Any], base: Path) -> None:
    """By the headers of its file: what has no place in the base model."""
    question = Question()
    adapter = read_adapter_folder(folder, own, question=question)
    found = compare_with_base(adapter, folder, {"model_name": str(base)}, question, lambda _: base)
    for item in found.differences:
        if item.code in ("not_in_model", "other_shape", "unfit_dtype"):
            what = Message(WHAT_DIFFERS[item.code])
            raise _refused(label, Message(N_("{name}: {what}."), {"name": item.name, "what": what}))


def refuse_other_weights(label: str, tensors: Mapping[str, torch.Tensor], saved: object, model: nn.Module) -> None:
    """Raise `ModelError` where a file would put another weight in the place of the base model's.

    PEFT writes embeddings beside a LoRA on them, and loads them into the base model: the same values change nothing.
    `tensors`: those of the file; `saved`: the adapter's `modules_to_save`, which have a copy of their own.
    """
    entries = tuple(map(str, as_tuple(saved)))
    weights = {
        canonical_name(name.replace(".original_module.", ".")): weight
        for name, weight in model.named_parameters(remove_duplicate=False)
    }
    for key, tensor in tensors.items():
        name = key.removeprefix(PEFT_PREFIX)
        if any(part in name for part in NOT_THE_BASES) or any(is_inside(name, entry) for entry in entries):
            continue
        own = weights.get(canonical_name(name))
        if own is None or own.shape != tensor.shape or not torch.equal(own.cpu(), tensor.to(own.dtype).cpu()):
            raise _refused(label, Message(N_("its file replaces `{name}` of the base model."), {"name": name}))


def _refused(label: str, why: Message) -> ModelError:
    return ModelError(N_("{label} cannot answer side by side with its base model: {why}"), label=label, why=why)
