"""The rank check of a loaded model or of a folder: what `check_lora_r_consistency` does."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import nn
from transformers import PreTrainedModel

from lora_backend.errors import ExpressionError, RankMismatchError
from lora_backend.modeling.fit import fit_of
from lora_backend.modeling.live_tree import tree_of_model
from lora_backend.modeling.loaded_identity import LoadedAdapter, differences_from_file
from lora_backend.modeling.lora_layers import (
    base_trains,
    has_not_finite,
    has_other_tuner,
    lora_layers_of_model,
    module_names,
    modules_saved_whole,
    peft_config_of,
    plain_config,
    read_bin,
)
from lora_backend.models.find import find_model
from lora_backend.verification.against_asked import held_against
from lora_backend.verification.asked_layers import asked_of
from lora_backend.verification.differences import LOAD_REFUSED
from lora_backend.verification.identity_check import with_identity
from lora_backend.verification.other_base import FindBase
from lora_backend.verification.rank_documents import RankReport, empty_report
from lora_backend.verification.rank_report import LORA_TYPES, check_adapter_folder, check_layers
from lora_backend.verification.ranks import rank_rule
from lora_backend.verification.verdicts import verdict
from lora_backend.views.rank_view import rank_text

logger = logging.getLogger(__name__)


def check_lora_r_consistency(
    model_or_folder: nn.Module | str | Path,
    config: Mapping[str, Any] | Any,
    adapter_name: str | None = None,
    *,
    loaded_from: str | Path | None = None,
) -> dict[str, Any]:
    """Whether every LoRA layer carries the rank that `config` asks of it.

    `model_or_folder`: a loaded PEFT model, or an adapter folder. `config`: ours, a PeftConfig, or the dict of an
    adapter_config.json. `adapter_name`: which adapter of a live model (default: the active one).
    `loaded_from`: the folder that a live model's adapter was loaded from; then every tensor of its file must be in the
    model with its value, and every parameter of the adapter must come from it (`compared`, `differences`).
    Three methods are reported for each layer: PEFT's config, the tensors' shapes, A against B.

    Returns `{"is_consistent": True | False | None, "status", "expected_r", "actual_r_values": {layer: r},
    "mismatched_layers": [name], "warnings": [code], "layers": [record]}`; logs it as a table. Raises `ModelError`
    only for a folder that is not there or cannot be read.
    """
    report = rank_report(model_or_folder, config, adapter_name, loaded_from=loaded_from)
    log_report(report)
    return report.to_dict()


def rank_report(
    model_or_folder: nn.Module | str | Path,
    config: Mapping[str, Any] | Any,
    adapter_name: str | None = None,
    trained: Collection[str] = (),
    *,
    loaded_from: str | Path | None = None,
    find_base: FindBase = find_model,
    exact: bool = False,
) -> RankReport:
    """What `check_lora_r_consistency` logs and returns as a dict.

    Of a folder: `trained` are layers that it must hold, `find_base` finds the base model that it is held against.
    Of a model, `exact`: a layer beyond those that the config asks for counts against it.
    """
    if isinstance(model_or_folder, str | Path):
        plain = None if config is None else plain_config(config)
        return check_adapter_folder(
            Path(model_or_folder), plain, adapter_name, read_bin, trained, find_base=find_base, ask_tree=fit_of
        )
    report = _live_report(model_or_folder, config, adapter_name, exact=exact)
    if loaded_from is None:
        return report
    differences = differences_from_file(model_or_folder, Path(loaded_from), adapter_name)
    return report if differences is None else with_identity(report, "loaded", differences)


def loaded_report(loaded: LoadedAdapter, config: Mapping[str, Any] | Any) -> RankReport:
    """The report of an adapter that `load_adapter` put on its base; of one that PEFT refused, only why."""
    if loaded.is_refused:
        own = peft_config_of(loaded.model, None) or {}
        expected_r = rank_rule(own if config is None else plain_config(config)).r
        report = empty_report("mismatch", False, expected_r).but(warnings=[LOAD_REFUSED])
    else:
        report = _live_report(loaded.model, config, None)
    return report if loaded.differences is None else with_identity(report, "loaded", loaded.differences)


def _live_report(
    model: nn.Module, config: Mapping[str, Any] | Any, adapter_name: str | None, *, exact: bool = False
) -> RankReport:
    own = peft_config_of(model, adapter_name)
    plain = (own or {}) if config is None else plain_config(config)
    expected_r = rank_rule(plain).r
    tuner = (own or plain).get("peft_type") or "LORA"
    if tuner not in LORA_TYPES or has_other_tuner(model):
        return empty_report("not_lora", None, expected_r)
    names, linear = module_names(model)
    layers = lora_layers_of_model(model, adapter_name, own or plain)
    report = check_layers(
        layers,
        plain,
        own,
        module_names=names,
        linear_names=linear,
        saved_whole=modules_saved_whole(model),
        warnings=[*_odd_values(model, own or plain, adapter_name)],
    )
    # PEFT's own configs are held against its own rules, and a config that names no targets against none.
    is_ours = "target_modules" in plain and not {"peft_type", "lora_alpha"} & plain.keys()
    if not is_ours or not any(isinstance(module, PreTrainedModel) for module in model.modules()):
        return report
    try:
        asked = asked_of(plain, tree_of_model(model))
    except ExpressionError:  # the report says so
        return report
    return held_against(report, asked, rank_rule(plain), exact=exact)


def _odd_values(model: nn.Module, config: Mapping[str, Any], adapter_name: str | None) -> Iterator[str]:
    if base_trains(model, config):
        yield "base_trains"
    if has_not_finite(model, adapter_name):
        yield "not_finite"


def raise_on_mismatch(report: RankReport) -> None:
    """Raise `RankMismatchError` with the verdict if the report is not consistent."""
    if report.is_consistent is not False:
        return
    raise RankMismatchError("{reasons}", reasons=verdict(report))


def log_report(report: RankReport) -> None:
    """The verdict and the table of layers, as a warning where something is wrong."""
    level = logging.WARNING if report.is_consistent is False else logging.INFO
    logger.log(level, "rank check: %s\n%s", verdict(report), rank_text(report))
