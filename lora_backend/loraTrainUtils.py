"""The public names under the original tool's module name: only the prefix `utils.loraTrain` changes."""

from lora_backend.config_checker import check_config_consistency
from lora_backend.modeling.build import build_lora_model, getEquipAdaptorModel
from lora_backend.modeling.device_map import apply_balanced_device_map, create_balanced_device_map
from lora_backend.modeling.rank_check import check_lora_r_consistency
from lora_backend.trainer.direct_run import buildandTrainLoraModel, train_lora_model

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
