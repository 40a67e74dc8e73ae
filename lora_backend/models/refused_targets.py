"""Modules that PEFT puts no LoRA on, by their family: Mamba's fused kernels read these weights past the layer."""

from __future__ import annotations

from collections.abc import Iterable

from lora_backend.i18n import N_, Message

MAMBA_FAMILIES = frozenset({"falcon_h1", "mamba", "mamba2", "falcon_mamba", "nemotron_h"})
MAMBA_REFUSED = frozenset({"out_proj", "conv1d"})
"""PEFT: `_check_lora_target_modules_mamba` in peft/tuners/tuners_utils.py."""


def is_refused(name: str, model_type: str | None) -> bool:
    """Whether PEFT refuses the module of this name in a family."""
    return model_type in MAMBA_FAMILIES and name.rpartition(".")[2] in MAMBA_REFUSED


def adaptable(linear_names: Iterable[str], model_type: str | None) -> tuple[str, ...]:
    """Of a model's linear layers, those that `all-linear` means."""
    return tuple(name for name in linear_names if not is_refused(name, model_type))


def left_out(model_type: str | None) -> Message | None:
    """What `all-linear` leaves out in a family, in a sentence; None where it leaves out nothing."""
    if model_type not in MAMBA_FAMILIES:
        return None
    return Message(
        N_(
            "`all-linear` leaves out {names}: PEFT puts no LoRA there in {family} models, because Mamba's kernels read these weights directly."
        ),
        {"names": "out_proj", "family": model_type},
    )
