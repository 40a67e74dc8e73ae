"""From a config to a model with its adapter: check, load, attach, verify."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from peft import PeftModel

from lora_backend.config.schema import TrainingConfig
from lora_backend.installation import Installation, this_installation
from lora_backend.modeling.adapter import attach_adapter
from lora_backend.modeling.device_map import placement
from lora_backend.modeling.load import load_model
from lora_backend.modeling.rank_check import log_report, raise_on_mismatch, rank_report
from lora_backend.preflight.path_policy import AnyPath
from lora_backend.preflight.resolve import resolve
from lora_backend.verification.rank_documents import RankReport


def getEquipAdaptorModel(config: Mapping[str, Any]) -> PeftModel:
    """Load the base model that `config` names and attach the LoRA that it describes.

    With `use_balanced_device_map` the model is spread over the GPUs as planned, unless a `device_map` is given; where
    no GPU has enough memory that is logged, and the model is loaded on one device.

    Checks the config first: `ConfigError` for errors, warnings are logged. With `check_r_consistency` or
    `strict_r_check` the ranks of the loaded model are checked; under `strict_r_check` a mismatch raises
    `RankMismatchError`. Raises `ModelError` where the model cannot be found or does not have what is named.
    """
    installation = this_installation()
    return build(resolve(config, installation, AnyPath(installation.folder)).validated(), installation)[0]


def build(config: TrainingConfig, installation: Installation) -> tuple[PeftModel, RankReport | None]:
    """The model with its adapter, and the rank report where one was asked for."""
    model = attach_adapter(load_model(config, placement(config, installation)[0]), config)
    report = None
    if config.check_r_consistency or config.strict_r_check:
        report = rank_report(model, config)
        log_report(report)
        if config.strict_r_check:
            raise_on_mismatch(report)
    return model, report


build_lora_model = getEquipAdaptorModel
