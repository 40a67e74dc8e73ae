"""What an adapter on disk changes of its base model, parameter by parameter, found without a byte of the base model."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer as PeftLoraLayer
from peft.tuners.lora.layer import Embedding, Linear, ParamWrapper
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import AuxiliaryTrainingWrapper, ModulesToSaveWrapper
from torch import nn
from transformers import PreTrainedModel

from lora_backend.errors import FlightdeckError, ModelError, first_line
from lora_backend.i18n import N_, Message
from lora_backend.modeling.fit import NAME, attached_without_bytes, fit_of
from lora_backend.modeling.loaded_identity import placed, read_tensors
from lora_backend.modeling.lora_layers import read_bin
from lora_backend.models.tree import ModuleTree
from lora_backend.shipping.lora_pairs import CHANGES_BASE
from lora_backend.shipping.merged_weights import Added, Change, Form, LowRank, Replaced
from lora_backend.verification.adapter_folder import is_pickled, read_adapter_config, read_adapter_headers
from lora_backend.verification.base_words import WHAT_DIFFERS
from lora_backend.verification.rank_report import LORA_TYPES
from lora_backend.verification.shapes import canonical_name


@dataclass(frozen=True)
class AdapterChanges:
    """Parameter of the base model → what the adapter makes of it."""

    by_parameter: Mapping[str, Change]
    others: tuple[str, ...] = ()
    """Modules whose change is of another form, which only PEFT's own layers on the real weights can make."""


def refuse_unfit(facts: Mapping[str, Any], adapter: Path) -> None:
    """Raise `ModelError` for an adapter that is no LoRA, or that does not fit the model of a `config.json`."""
    config = read_adapter_config(adapter)
    if config is None:
        raise ModelError(
            N_("The folder {path} contains no adapter: it has no adapter_config.json. Name the folder that has one."),
            path=str(adapter),
        )
    if config.get("peft_type") not in LORA_TYPES:
        raise ModelError(
            N_("The adapter is not a LoRA (its `peft_type` is {kind}), so it cannot be merged here."),
            kind=str(config.get("peft_type") or "–"),
        )
    if config.get("alora_invocation_tokens"):
        raise ModelError(
            N_(
                "The adapter is switched on by certain tokens (`alora_invocation_tokens`), so a merged model cannot behave like it."
            )
        )
    if config.get("layer_replication"):
        raise ModelError(N_("PEFT cannot merge this adapter: {reason}"), reason="layer_replication")
    headers = read_bin(adapter / "adapter_model.bin") if is_pickled(adapter) else read_adapter_headers(adapter)
    fit = fit_of(facts, adapter, headers)
    for item in fit.differences:
        raise ModelError(
            N_("The adapter does not fit the base model: {name} {what}. Set its own base model with `--model`."),
            name=item.name,
            what=Message(WHAT_DIFFERS[item.code]),
        )


def read_changes(base: PreTrainedModel, adapter: Path) -> AdapterChanges:
    """Of an adapter that fits. `base`: on the meta device, as `build_base` makes it; it gets the adapter's places.

    Raises `ModelError` where PEFT does not load the adapter, or where it holds NaN.
    """
    config = read_adapter_config(adapter) or {}
    start = str(config.get("init_lora_weights")).lower()
    if config.get("peft_type") != "LORA" or start.startswith(CHANGES_BASE):
        return AdapterChanges({}, (f"init_lora_weights: {start}",))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of values, of which there are none here
        try:
            tensors = read_tensors(adapter, base)
            model = attached_without_bytes(base, adapter)
            # PEFT itself would move them to the base's device, where no byte is.
            model.load_state_dict(placed(model, NAME, tensors), strict=False, assign=True)
        except FlightdeckError:
            raise
        except Exception as error:  # whatever somebody else's files make PEFT raise
            raise ModelError(
                N_("PEFT cannot put the adapter on this model: {reason}"), reason=first_line(error)
            ) from error
    return changes_in(model)


def changes_in(model: PeftModel) -> AdapterChanges:
    """Of a model with its adapter, whose base may be on the meta device."""
    changes: dict[str, Change] = {}
    others: list[str] = []
    for raw, module in model.named_modules():
        if isinstance(module, PeftLoraLayer) and isinstance(module, BaseTunerLayer):
            found = dict(_of_layer(canonical_name(raw), module))
            changes |= found
            if not found and NAME in module.r:
                others.append(canonical_name(raw))
        elif isinstance(module, ModulesToSaveWrapper):
            own = canonical_name(raw)
            changes |= {f"{own}.{key}": Replaced(one.data) for key, one in _saved(module)}
        elif isinstance(module, AuxiliaryTrainingWrapper) and not isinstance(module, ModulesToSaveWrapper):
            others.append(canonical_name(raw))
    for raw, parameter in model.named_parameters():
        if not parameter.is_meta and not _is_adapters(raw):
            changes.setdefault(canonical_name(raw), Replaced(parameter.data))
    for name, change in changes.items():
        _refuse_unreadable(name, change)
    return AdapterChanges(changes, tuple(others))


def _saved(module: ModulesToSaveWrapper) -> Iterator[tuple[str, nn.Parameter]]:
    own = module.modules_to_save
    return own[NAME].named_parameters() if NAME in own else iter(())


def _is_adapters(raw: str) -> bool:
    parts = raw.split(".")
    inside = ("modules_to_save", "token_adapter", "original_module")
    return any(part.startswith("lora_") or part in inside for part in parts)


def _of_layer(name: str, module: Any) -> Iterator[tuple[str, Change]]:
    """The weight's change, and the bias's where B has one; nothing where the layer is of another form."""
    variant = type(module.lora_variant.get(NAME)).__name__
    kind = type(module)
    if NAME not in module.r or variant not in ("NoneType", "DoraLinearVariant", "DoraEmbeddingVariant"):
        return
    magnitude = module.lora_magnitude_vector[NAME].weight.data if variant != "NoneType" else None
    scale = float(module.scaling[NAME])
    if kind is Embedding:
        a, b = module.lora_embedding_A[NAME].data, module.lora_embedding_B[NAME].data
        yield f"{name}.weight", LowRank(name, a, b, scale, "embedding", magnitude=magnitude)
        return
    if kind not in (Linear, ParamWrapper):
        return
    a, b = module.lora_A[NAME].weight.data, module.lora_B[NAME].weight.data
    if kind is ParamWrapper:
        holder = module.get_base_layer()
        is_one = getattr(holder, module.parameter_name).dim() == 2
        form: Form = "transposed_experts" if getattr(holder, "is_transposed", False) else "experts"
        form = "linear" if is_one else form
        yield (
            f"{name}.{module.parameter_name}",
            LowRank(f"{name}.{module.parameter_name}", a, b, scale, form, module.num_experts),
        )
        return
    form = "transposed" if module.fan_in_fan_out else "linear"
    yield f"{name}.weight", LowRank(name, a, b, scale, form, magnitude=magnitude)
    if module.lora_bias[NAME]:
        if getattr(module.get_base_layer(), "bias", None) is None:
            raise ModelError(
                N_(
                    "{layer} has a bias of its own in the adapter (`lora_bias`) and none in the base model to add it to."
                ),
                layer=name,
            )
        yield f"{name}.bias", Added(name, module.lora_B[NAME].bias.data.float() * scale)


def _refuse_unreadable(name: str, change: Change) -> None:
    tensors = (change.a, change.b, change.magnitude) if isinstance(change, LowRank) else (change.value,)
    for tensor in tensors:
        if tensor is not None and tensor.is_meta:
            raise ModelError(
                N_("The adapter does not fit the base model: {name} {what}. Set its own base model with `--model`."),
                name=name,
                what=Message(WHAT_DIFFERS["not_from_file"]),
            )
        if tensor is not None and tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise ModelError(
                N_("The values that the adapter adds to {name} contain NaN or infinity. Use an earlier checkpoint."),
                name=name,
            )


@dataclass(frozen=True)
class Ties:
    """Which parameters of a model are one tensor, and which of them are one no longer with the adapter."""

    sources: Mapping[str, str]
    """Parameter → the one of its group that its base weight is read from."""
    untied: tuple[str, ...]
    """Those that become a tensor of their own."""


def ties_with(
    tree: ModuleTree, apart: Collection[str], changes: Mapping[str, Change], has_own: Mapping[str, str]
) -> Ties:
    """What the adapter does to tied weights. `has_own`: parameter → its tensor in the files; `apart`: parameters that the
    files hold beside the one that they would be tied to, with other values.

    An adapter on one end of a tie changes that end alone, so the two are stored apart. Raises `ModelError` where what is
    tied is not the embedding and the head, for then a config cannot say that it is not.
    """
    groups: dict[str, list[str]] = {}
    for name, first in tree.tied.items():
        if name not in apart:
            groups.setdefault(first, [first]).append(name)
    sources: dict[str, str] = {}
    untied: list[str] = []
    ends = {f"{tree.embedding}.weight", f"{tree.head}.weight"}
    for group in groups.values():
        source = next((name for name in group if name in has_own), group[0])
        sources |= dict.fromkeys(group, source)
        changed = [name for name in group if name in changes]
        if not changed or _is_same_for_all(group, changes):
            continue
        if set(group) != ends:
            raise ModelError(
                N_(
                    "The adapter changes {name}, which the base model shares with {other}. Models of that kind cannot be merged."
                ),
                name=changed[0],
                other=next(name for name in group if name != changed[0]),
            )
        untied += [name for name in group if name != source]
    return Ties(sources, tuple(untied))


def _is_same_for_all(group: list[str], changes: Mapping[str, Change]) -> bool:
    """Whether both ends of a tie get the same values, as under `ensure_weight_tying`."""
    found = [changes.get(name) for name in group]
    saved = [change.value for change in found if isinstance(change, Replaced)]
    if len(saved) == len(group):
        return all(torch.equal(saved[0], value) for value in saved)
    pairs = [change for change in found if isinstance(change, LowRank) and change.magnitude is None]
    if len(pairs) != len(group) or len({change.scale for change in pairs}) > 1:
        return False
    left, right = zip(*(_as_linear(change) for change in pairs), strict=True)
    return all(torch.equal(a[0], b) for a in (left, right) for b in a)


def _as_linear(change: LowRank) -> tuple[torch.Tensor, torch.Tensor]:
    """Both factors as those of a linear layer: an embedding's product lies transposed."""
    return (change.a.T, change.b.T) if change.form in ("embedding", "transposed") else (change.b, change.a)
