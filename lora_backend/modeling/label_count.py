"""How many labels count in a batch: the count that a training step divides its summed loss by."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from transformers.loss.loss_utils import ForCausalLMLoss

from lora_backend.modeling.loss import IGNORED


def labels_that_count(model: nn.Module, labels: Iterable[torch.Tensor]) -> int:
    """Labels (rows × tokens, one tensor for each micro-batch) that are learned, in all of them together.

    Where token n predicts the label of n + 1 the first label of each row is of no use. Trainer knows it by the name of a
    model's class and counts it all the same for some (GPT-2's, where everything is trained); here it goes by the loss that
    the model computes, so that a flat batch, whose rows have no first label, has the same count. Reads values: call it
    while the batches are still in host memory.
    """
    causal: Any = model.get_base_model() if hasattr(model, "get_base_model") else model  # type: ignore[operator]
    is_shifted = getattr(causal, "loss_function", None) is ForCausalLMLoss
    return sum(int((one[..., 1:] if is_shifted else one).ne(IGNORED).sum()) for one in labels)
