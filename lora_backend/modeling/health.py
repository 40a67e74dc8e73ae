"""What the values of an adapter say beyond its rank: norm, effective rank, NaN, whether it changes anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from lora_backend.errors import ModelError, first_line
from lora_backend.expressions.question import Question
from lora_backend.i18n import N_
from lora_backend.verification.adapter_folder import holds_experts, read_adapter_config, split_lora_key
from lora_backend.verification.coverage import targets_of
from lora_backend.verification.layer_health import LayerHealth
from lora_backend.verification.ranks import rank_rule
from lora_backend.verification.shapes import canonical_name

ENERGY = 0.99
"""Share of ‖ΔW‖² that `needed_rank` has to keep."""


def adapter_health(folder: Path) -> list[LayerHealth]:
    """Each layer of a LoRA folder, its tensors read; the base model is not needed.

    Two-dimensional layers have a `norm` (of AdaLoRA ‖B·diag(E)·A‖), an `effective_rank` and a `needed_rank`: see
    `spectrum_figures`. Parameters of experts have none: theirs are as many products as experts, and how many a folder
    does not say. Raises `ModelError` where there is no LoRA in safetensors, `ExpressionError` where one takes too long.
    """
    config = read_adapter_config(folder)
    files = sorted(folder.glob("adapter_model*.safetensors"))
    if config is None or not files:
        raise ModelError(N_("{path} contains no LoRA adapter in safetensors. Choose another folder."), path=str(folder))
    tensors = {name: tensor for file in files for name, tensor in _tensors_in(file).items()}
    pairs: dict[str, dict[str, dict[str, torch.Tensor]]] = {}
    for key, tensor in tensors.items():
        if found := split_lora_key(key):
            module, half = found
            pairs.setdefault(canonical_name(module), {}).setdefault(module, {})[half] = tensor
    question = Question()
    rule, targets = rank_rule(config, on_disk=True, question=question), targets_of(config, question=question)
    rule.prepare(pairs)
    if targets.parameters:
        targets.prepare(pairs)
    return [
        _record(name, list(found.values()), rule.scaling_for(name), holds_experts(name, targets))
        for name, found in pairs.items()
    ]


def _tensors_in(file: Path) -> dict[str, torch.Tensor]:
    try:
        return load_file(file)
    except (SafetensorError, OSError) as error:
        reason = first_line(error)
        raise ModelError(
            N_("The file {path} is damaged ({reason}). Copy or save it again."), path=str(file), reason=reason
        ) from error


def _record(
    name: str, pairs: Sequence[Mapping[str, torch.Tensor]], scaling: float | None, is_experts: bool
) -> LayerHealth:
    """`pairs`: the tensors of the layer; of a module with several parameters of experts those of each."""
    values = [value for pair in pairs for value in pair.values()]
    record = LayerHealth(
        name,
        dtype=str(values[0].dtype).removeprefix("torch."),
        has_nonfinite=any(not bool(torch.isfinite(value).all()) for value in values),
        adds_nothing=all(any(not bool(value.any()) for value in pair.values()) for pair in pairs),
    )
    if is_experts or record.has_nonfinite or len(pairs) > 1:
        return record
    halves = pairs[0]
    a = halves.get("lora_A", halves.get("lora_embedding_A"))
    b = halves.get("lora_B", halves.get("lora_embedding_B"))
    if a is None or b is None or a.dim() != 2 or b.dim() != 2 or a.shape[0] != b.shape[1]:
        return record
    a = a.float() * halves["lora_E"].float() if "lora_E" in halves else a.float()
    singular = singular_values(a, b.float()) * (scaling or 1.0)
    return replace(record, **spectrum_figures(singular))


def singular_values(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Singular values of B·A, largest first, without building the product.

    With B = Q₁R₁ and Aᵀ = Q₂R₂ the product is Q₁(R₁R₂ᵀ)Q₂ᵀ, and orthogonal factors change no singular value; what is
    decomposed is r × r in the place of out × in.
    """
    r_b = torch.linalg.qr(b, mode="r").R
    r_a = torch.linalg.qr(a.T, mode="r").R
    return torch.linalg.svdvals(r_b @ r_a.T)


def spectrum_figures(singular: torch.Tensor) -> dict[str, Any]:
    """`norm`, `effective_rank` and `needed_rank` of a spectrum.

    `effective_rank` is exp(H(p)) with p = σ / Σσ (Roy and Vetterli, 2007, “The effective rank”): 1 when one direction
    does all, r when all weigh the same. `needed_rank` is the smallest k whose largest σ keep 99 % of Σσ².
    """
    total = float(singular.sum())
    if total == 0:
        return {"norm": 0.0, "effective_rank": 0.0, "needed_rank": 0}
    share = singular / total
    share = share[share > 0]
    energy = torch.cumsum(singular**2, 0) / (singular**2).sum()
    return {
        "norm": float(singular.norm()),
        "effective_rank": float(torch.exp(-(share * share.log()).sum())),
        "needed_rank": int((energy < ENERGY).sum()) + 1,
    }
