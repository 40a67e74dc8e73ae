"""Gradient checkpointing: activations are computed twice so that they need not be kept."""

from __future__ import annotations

from typing import Any

from torch import nn

from lora_backend.errors import ModelError
from lora_backend.i18n import N_

HOW = {"use_reentrant": False}


def checkpoint_activations(model: nn.Module) -> None:
    """Turn it on for every block. Raises `ModelError` where the family does not support it."""
    causal: Any = model
    try:
        if hasattr(model, "activation_checkpointing_enable"):
            causal.activation_checkpointing_enable(activation_checkpointing_kwargs=HOW)
        else:  # its name in transformers before 5.23
            causal.gradient_checkpointing_enable(gradient_checkpointing_kwargs=HOW)
    except ValueError as error:
        raise ModelError(N_("This family does not support `gradient_checkpointing`. Set it to false.")) from error
