"""Let a fresh adapter begin with the weights of one on disk, every tensor of it or none."""

from __future__ import annotations

import logging
from pathlib import Path

from peft import PeftModel

from lora_backend.config.schema import TrainingConfig
from lora_backend.errors import ModelError
from lora_backend.i18n import N_
from lora_backend.modeling.live_tree import tree_of_model
from lora_backend.modeling.loaded_identity import differences_from_file, read_tensors, tensor_differences
from lora_backend.models.find import find_model
from lora_backend.preflight.path_policy import PathPolicy
from lora_backend.verification.passport import tensors_sha256
from lora_backend.verification.start_adapter import why_not_begin_with

logger = logging.getLogger(__name__)


def begin_with(model: PeftModel, config: TrainingConfig, policy: PathPolicy) -> str | None:
    """Put the weights of `init_from_adapter` in the place of the fresh ones. Returns the hash of their file.

    Raises `ModelError` where they are of another adapter than the config describes: PEFT drops what does not match
    without a word, and training would begin with half of it.
    """
    assert config.init_from_adapter is not None
    folder = policy.adapter(config.init_from_adapter)
    base = find_model(config.model_name)
    reason = why_not_begin_with(config.model_dump(), folder, base, policy.model, tree_of_model(model.get_base_model()))
    if reason is not None:
        raise ModelError("{reason}", reason=reason)
    found = tensor_differences(model, read_tensors(folder, model.get_base_model()), values=False)
    _refuse(folder, [item.name for item in found or ()])
    model.load_adapter(str(folder), model.active_adapter, is_trainable=True)
    _refuse(folder, [item.name for item in differences_from_file(model, folder) or ()])
    logger.info("the adapter begins with the weights in %s", folder)
    return tensors_sha256(folder)


def _refuse(folder: Path, names: list[str]) -> None:
    if names:
        raise ModelError(
            N_(
                "The adapter in {path} has other tensors than the config asks for, first {first}. Set the keys of the adapter as it has them, or name another in `init_from_adapter`."
            ),
            path=str(folder),
            first=names[0],
        )
