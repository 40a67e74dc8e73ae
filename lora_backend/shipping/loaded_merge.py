"""Merge an adapter through the loaded model, where its files do not have the model's matrices one to one."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from torch import nn
from transformers import PreTrainedModel

from lora_backend.config.schema import TrainingConfig
from lora_backend.errors import ModelError, first_line
from lora_backend.formats import number, size
from lora_backend.i18n import N_, Message
from lora_backend.modeling.devices import free_bytes
from lora_backend.modeling.load import load_model
from lora_backend.modeling.loaded_identity import load_adapter
from lora_backend.runs.record.job_documents import ExportDtype, Proof
from lora_backend.shipping.adapter_changes import AdapterChanges, changes_in
from lora_backend.shipping.merged_proof import MOST_ULPS, ROOM
from lora_backend.shipping.merged_weights import LowRank, merged, ulps_apart
from lora_backend.verification.base_words import WHAT_DIFFERS
from lora_backend.verification.shapes import canonical_name


def refuse_too_large(weights_bytes: int, why: str) -> None:
    """Raise `ModelError` where the model does not fit into free memory. `why`: what of it is not in its files as it is."""
    needed, free = weights_bytes * ROOM, free_bytes(torch.device("cpu"))
    if needed > free:
        raise ModelError(
            N_(
                "{name} is not stored one to one in the model's files, so it must be merged in memory; that needs {needed}, but only {free} are free. Merge on a machine with more memory."
            ),
            name=why,
            needed=size(needed),
            free=size(free),
        )


def merge_loaded(
    base: Path, adapter: Path, output: Path, *, precision: ExportDtype, dtype: torch.dtype | None, shard_bytes: int
) -> tuple[Proof, bool]:
    """Write the merged model into `output`; returns the proof of its matrices, and whether embedding and head, tied in the
    base model, are two tensors now.

    `precision`: that of the base model's files, in which it is loaded. `dtype`: of what is written; None: the same.
    Raises `ModelError` where PEFT cannot merge a layer.
    """
    model = load_model(TrainingConfig(model_name=str(base.resolve()), device_map="cpu", precision=precision))
    is_tied = _tied_weights(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loaded = load_adapter(model, adapter)
        for item in loaded.differences or ():
            raise ModelError(
                N_("The adapter does not fit the base model: {name} {what}. Set its own base model with `--model`."),
                name=item.name,
                what=Message(WHAT_DIFFERS[item.code]),
            )
        changes = changes_in(loaded.model)
        if is_tied:
            _untie(model, changes)
        proof = _merge_in_place(loaded.model, changes)
        whole = _unloaded(loaded.model)
    is_untied = is_tied and not _tie_again(whole)
    if dtype is not None:
        whole.to(dtype)
    whole.save_pretrained(output, max_shard_size=shard_bytes)
    return proof, is_untied


def _tied_weights(model: PreTrainedModel) -> bool:
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    return head is not None and getattr(head, "weight", None) is getattr(embedding, "weight", 0)


def _untie(model: PreTrainedModel, changes: AdapterChanges) -> None:
    """Give the head a tensor of its own, so that what is added to one end of the tie is not added to the other."""
    names = {id(module): canonical_name(name) for name, module in model.named_modules()}
    ends = (model.get_input_embeddings(), model.get_output_embeddings())
    own = {names.get(id(end), "") for end in ends}
    touched = {name.rpartition(".")[0] for name in changes.by_parameter} | set(changes.others)
    if own & touched:
        head: Any = getattr(ends[1], "base_layer", getattr(ends[1], "original_module", ends[1]))
        head.weight = nn.Parameter(head.weight.detach().clone(), requires_grad=False)


def _tie_again(model: PreTrainedModel) -> bool:
    """Whether both ends hold the same values; then they are one tensor, as they were."""
    head: Any = model.get_output_embeddings()
    embedding: Any = model.get_input_embeddings()
    if head.weight is embedding.weight:
        return True
    if torch.equal(head.weight, embedding.weight):
        head.weight = embedding.weight
        return True
    text = model.config.get_text_config(decoder=True)
    for config in {id(config): config for config in (model.config, text)}.values():
        config.tie_word_embeddings = False
    return False


def _merge_in_place(model: PeftModel, changes: AdapterChanges) -> Proof:
    """PEFT's own merge, then every matrix whose change is known held against W + scale·B·A, and rounded once."""
    bases = dict(_low_rank_bases(model, changes))
    before = {name: weight.detach().clone() for name, weight in bases.items()}
    wanted = {name: merged(weight, changes.by_parameter[name]).to(weight.dtype) for name, weight in before.items()}
    try:
        model.merge_adapter(safe_merge=True)  # type: ignore[operator]
    except (NotImplementedError, ValueError, RuntimeError) as error:
        raise ModelError(N_("PEFT cannot merge this adapter: {reason}"), reason=first_line(error)) from error
    furthest = max((ulps_apart(bases[name], value, before[name]) for name, value in wanted.items()), default=0.0)
    for name, value in wanted.items():
        bases[name].data = value  # PEFT rounds scale·B·A before it adds it, where it lies on a parameter of experts
    values = {"count": len(wanted), "ulps": number(furthest), "others": len(changes.others)}
    said = N_(
        "{count} matrices are W + scale·B·A in fp32; PEFT's own merge is at most {ulps} units in the last place apart from them. {others} more were merged by PEFT alone."
    )
    is_checked = bool(wanted) or not changes.others
    passed = furthest <= MOST_ULPS if is_checked else None
    return Proof(code="tensors", passed=passed, message=Message(said, values))


def _low_rank_bases(model: PeftModel, changes: AdapterChanges) -> Mapping[str, nn.Parameter]:
    found: dict[str, nn.Parameter] = {}
    for raw, parameter in model.named_parameters(remove_duplicate=False):
        name = canonical_name(raw)
        if ".lora_" not in raw and isinstance(changes.by_parameter.get(name), LowRank):
            found[name] = parameter
    return found


def _unloaded(model: PeftModel) -> PreTrainedModel:
    """The base model without PEFT's layers; what is merged stays, and modules saved whole take their places."""
    return model.merge_and_unload()  # type: ignore[operator, no-any-return]
