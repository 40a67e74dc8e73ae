"""The rank check of a loaded model or of a folder: what `check_lora_r_consistency` does."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from peft import PeftConfig
from peft.tuners.lora import LoraLayer as PeftLoraLayer
from torch import nn

from lora_backend.errors import RankMismatchError
from lora_backend.i18n import N_
from lora_backend.verification.ranks import rank_rule
from lora_backend.verification.report import NO_LORA_FOUND, as_table, check_adapter_folder, check_layers, verdict
from lora_backend.verification.shapes import LoraLayer, canonical_name

logger = logging.getLogger(__name__)


def check_lora_r_consistency(
    model_or_folder: nn.Module | str | Path, config: Mapping[str, Any] | Any, adapter_name: str | None = None
) -> dict[str, Any]:
    """Whether every LoRA layer carries the rank that `config` asks of it.

    `model_or_folder`: a loaded PEFT model, or an adapter folder. `config`: ours, a PeftConfig, or the dict of an
    adapter_config.json. `adapter_name`: which adapter of a live model (default: the active one).
    Three methods are reported for each layer: PEFT's config, the tensors' shapes, A against B.

    Returns `{"is_consistent": True | False | None, "status", "expected_r", "actual_r_values": {layer: r},
    "mismatched_layers": [name], "warnings": [code], "layers": [record]}`; logs it as a table. Raises `ModelError`
    only for a folder that is not there or cannot be read.
    """
    report = rank_report(model_or_folder, config, adapter_name)
    log_report(report)
    return report


def rank_report(
    model_or_folder: nn.Module | str | Path, config: Mapping[str, Any] | Any, adapter_name: str | None = None
) -> dict[str, Any]:
    """What `check_lora_r_consistency` returns, without logging it."""
    plain = _plain(config)
    if isinstance(model_or_folder, str | Path):
        return check_adapter_folder(Path(model_or_folder), plain)
    own = _own_config(model_or_folder, adapter_name)
    layers = lora_layers_of_model(model_or_folder, adapter_name)
    return check_layers(layers, rank_rule(plain), rank_rule(own) if own else None)


def raise_on_mismatch(report: Mapping[str, Any]) -> None:
    """Raise `RankMismatchError`, naming the first layers and the count, unless the report is consistent."""
    if report["is_consistent"] is not False:
        return
    if report["status"] == "no_lora_layers":
        raise RankMismatchError(NO_LORA_FOUND)
    raise RankMismatchError(
        N_("{count} LoRA layers do not carry rank {r} as the config asks, first {first}. Nothing was trained."),
        count=len(report["mismatched_layers"]),
        r=report["expected_r"],
        first=", ".join(report["mismatched_layers"][:3]),
    )


def log_report(report: Mapping[str, Any]) -> None:
    """The verdict and the table of layers, as a warning where something is wrong."""
    level = logging.WARNING if report["is_consistent"] is False else logging.INFO
    logger.log(level, "rank check: %s\n%s", verdict(report), as_table(report))


def lora_layers_of_model(model: nn.Module, adapter_name: str | None = None) -> list[LoraLayer]:
    """Every LoRA layer on a Linear module that the live model holds, read from its tensors."""
    layers = []
    for name, module in model.named_modules():
        if not isinstance(module, PeftLoraLayer):
            continue
        adapter = adapter_name or module.active_adapters[0]
        if adapter in module.lora_A and adapter in module.lora_B:
            layers.append(
                LoraLayer(
                    canonical_name(name),
                    tuple(module.lora_A[adapter].weight.shape),
                    tuple(module.lora_B[adapter].weight.shape),
                    module.r.get(adapter),
                )
            )
    return layers


def _own_config(model: nn.Module, adapter_name: str | None) -> dict[str, Any] | None:
    configs = getattr(model, "peft_config", None)
    if not configs:
        return None
    active = adapter_name or getattr(model, "active_adapter", None)
    return _plain(configs.get(active) or next(iter(configs.values())))


def _plain(config: Mapping[str, Any] | Any) -> dict[str, Any]:
    if isinstance(config, PeftConfig):
        return dict(config.to_dict())
    if hasattr(config, "model_dump"):  # our TrainingConfig
        return dict(config.model_dump())
    return dict(config)
