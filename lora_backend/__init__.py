"""LoRA training whose config, ranks and runs can be trusted. The public names are imported when first used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lora_backend.config_checker import check_config_consistency
    from lora_backend.modeling.build import build_lora_model, getEquipAdaptorModel
    from lora_backend.modeling.device_map import apply_balanced_device_map, create_balanced_device_map
    from lora_backend.modeling.rank_check import check_lora_r_consistency

_HOMES = {
    "apply_balanced_device_map": "lora_backend.modeling.device_map",
    "create_balanced_device_map": "lora_backend.modeling.device_map",
    "check_config_consistency": "lora_backend.config_checker",
    "check_lora_r_consistency": "lora_backend.modeling.rank_check",
    "getEquipAdaptorModel": "lora_backend.modeling.build",
    "build_lora_model": "lora_backend.modeling.build",
    "buildandTrainLoraModel": "lora_backend.trainer.direct_run",
    "train_lora_model": "lora_backend.trainer.direct_run",
}

__all__ = [
    "apply_balanced_device_map",
    "build_lora_model",
    "buildandTrainLoraModel",
    "check_config_consistency",
    "check_lora_r_consistency",
    "create_balanced_device_map",
    "getEquipAdaptorModel",
    "train_lora_model",
]


def __getattr__(name: str) -> Any:
    # Half of the package must start without torch, so no name is imported before it is asked for.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
