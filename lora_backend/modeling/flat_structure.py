"""Whether a model can take rows without padding, by what is known of it without computing anything."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from lora_backend.i18n import N_, Message
from lora_backend.kernels.varlen_attention import MOST_HEAD_DIM, SINCE, varlen

LAYER_TYPES = {"full_attention", "sliding_attention"}
"""What goes from token to token in a way that our attention computes (transformers' words in `layer_types`)."""
DROPOUTS = ("attention_dropout", "attn_pdrop", "attn_dropout", "attention_probs_dropout_prob")
"""Names of the attention's dropout in configs of transformers' families."""


def why_not_flat_by_structure(
    model: nn.Module, precision: str, attention: str | None = None, device_type: str = "cpu"
) -> Message | None:
    """Why the model's batches are padded, or None where nothing is known against rows without padding.

    `attention`: the config's `attn_implementation`; `device_type`: where the model trains. Works on a model without memory.
    """
    base: Any = causal_model(model)
    config = base.config.get_text_config(decoder=True)
    family = config.model_type
    if attention not in (None, "sdpa") and not is_flash(attention):
        return Message(
            N_("`attn_implementation: {attention}` computes padded batches. Remove it for rows without padding."),
            {"attention": attention},
        )
    if not all(part._can_set_attn_implementation() for part in _decoders(base)):
        return Message(N_("{family} computes its attention itself, over padded rows."), {"family": family})
    others = sorted(set(getattr(config, "layer_types", None) or ()) - LAYER_TYPES)
    if others or any(part._is_stateful for part in _decoders(base)):
        return Message(
            N_("Rows without padding would see one another in layers of {family} that are not ordinary attention ({kinds})."),
            {"family": family, "kinds": ", ".join(others) or "linear_attention"},
        )  # fmt: skip
    if not all(part.is_backend_compatible() for part in _decoders(base)):
        return Message(N_("{family} does not hand on to its attention where rows end."), {"family": family})
    if getattr(config, "alibi", False):
        return Message(
            N_("{family} adds a bias to its attention (ALiBi), which rows without padding do not have."),
            {"family": family},
        )
    return _why_not_on_cuda(base, precision) if device_type == "cuda" and not is_flash(attention) else None


def _why_not_on_cuda(base: Any, precision: str) -> Message | None:
    config = base.config.get_text_config(decoder=True)
    values = {"family": config.model_type}
    if varlen() is None:
        return Message(N_("This torch has no attention for rows without padding on CUDA. Install torch 2.10 or newer."))
    if precision == "fp32":
        return Message(N_("On CUDA, attention over rows without padding computes in 16 bits only, not in fp32."))
    if torch.cuda.is_available() and torch.cuda.get_device_capability() < SINCE:
        return Message(N_("This GPU is older than flash attention, which rows without padding need on CUDA."))
    if getattr(config, "attn_logit_softcapping", None) is not None:
        return Message(N_("{family} caps its attention's scores, which is not computed for rows without padding on CUDA."), values)  # fmt: skip
    if any(name.endswith("sinks") for name, _ in base.named_parameters()):
        return Message(N_("{family} has attention sinks, which are not computed for rows without padding on CUDA."), values)  # fmt: skip
    if any(getattr(config, name, None) for name in DROPOUTS):
        return Message(N_("{family} has dropout in its attention, which is not computed for rows without padding on CUDA."), values)  # fmt: skip
    if _widest_head(base) > MOST_HEAD_DIM:
        return Message(N_("Heads of {family} are wider than flash attention takes, which rows without padding need on CUDA."), values)  # fmt: skip
    return None


def _widest_head(base: Any) -> int:
    """Of all layers, by what they say themselves: some families have several widths, and their config none."""
    widths = (getattr(module, "head_dim", None) for module in base.modules())
    return max((width for width in widths if isinstance(width, int)), default=0)


def causal_model(model: nn.Module) -> nn.Module:
    """The model itself, without the adapter around it."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model  # type: ignore[operator, no-any-return]


def is_flash(attention: str | None) -> bool:
    """Whether it is a flash attention, of the `flash-attn` package or of a kernel; transformers hands it the rows' ends."""
    return attention is not None and "flash" in attention


def _decoders(base: Any) -> Iterator[Any]:
    """The parts that process text: transformers' models in the model, but towers for images and sound."""
    text = (base.config, base.config.get_text_config(decoder=True))
    return (
        part for part in base.modules() if isinstance(part, PreTrainedModel) and any(part.config is one for one in text)
    )
