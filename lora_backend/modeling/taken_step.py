"""How a model's step is taken where its settings leave that to the model, decided by what training decides it by."""

from __future__ import annotations

from torch import nn

from lora_backend.errors import ModelError
from lora_backend.i18n import Message
from lora_backend.modeling.flat_structure import why_not_flat_by_structure
from lora_backend.modeling.loss import ChunkedLoss
from lora_backend.planning.cost.profile import Taken
from lora_backend.planning.cost.trace_settings import TraceSettings


def taken_on(model: nn.Module, settings: TraceSettings) -> Taken:
    """By structure alone: a model without bytes has no values that could be tried.

    Training tries a few tokens as well, and may then pad, or compute all logits, where a plan says otherwise; its log says
    so. Raises `ModelError` where `chunked_nll` is asked for and cannot be.
    """
    why: dict[str, Message | None] = {"cpu": None, "cuda": None}
    if settings.batching == "flat":
        asked = settings.precision, settings.attn_implementation
        why = {device: why_not_flat_by_structure(model, *asked, device) for device in why}
    is_flat = settings.batching == "flat" and why["cpu"] is None
    return Taken(
        "flat" if is_flat else "padded",
        "chunked_nll" if _is_chunked(model, settings.loss_type) else "nll",
        why_padded=why["cpu"],
        why_padded_on_gpu=why["cuda"],
    )


def _is_chunked(model: nn.Module, loss_type: str) -> bool:
    if loss_type == "nll":
        return False
    try:
        ChunkedLoss(model)
    except ModelError:
        if loss_type == "chunked_nll":
            raise
        return False
    return True
