"""The limit that matrix products set: those of the demo model's linear layers in one step, timed alone.

Of each layer with an adapter of rank r, for x (T × in) and y = x Wᵀ + s·(x Aᵀ) Bᵀ: forward x Wᵀ, x Aᵀ, (x Aᵀ) Bᵀ;
backward dy W, dy B, (dy B) A, (dy B)ᵀ x and dyᵀ (x Aᵀ). W is frozen, so it has no product of its own backward, and the
first block's q, k and v need no gradient of x. Of the head: forward and dx, for tokens that are learned. Weights are the
model's, each used once a pass, so that they come from memory as they do in a step. Attention's products are not in it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from statistics import median
from typing import Any

from benchmarks.training.contenders import Contender, config_of

PASSES = 5


@dataclass
class Products:
    """Time and operations of one step's matrix products."""

    seconds: float
    """Of all of them, once: the median of `PASSES`."""
    flops: float


def time_products(dtype: str, tokens: int, labels: int) -> Products:
    """`tokens`: of one step; `labels`: of these, those that are learned. `dtype`: fp32 or bf16."""
    import torch

    layers, head = _weights(getattr(torch, {"fp32": "float32", "bf16": "bfloat16"}[dtype]))
    kind = {"dtype": head.dtype}
    sides = {side for weight, *_ in layers for side in weight.shape}
    inputs = {side: torch.randn(tokens, side, **kind) for side in sides}
    learned, logits = torch.randn(labels, head.shape[1], **kind), torch.randn(labels, head.shape[0], **kind)
    linear = torch.nn.functional.linear
    flops = float(2 * 2 * labels * head.numel())

    def once() -> float:
        began = time.perf_counter()
        for weight, a, b, _ in layers:
            x = inputs[weight.shape[1]]
            linear(x, weight)
            linear(linear(x, a), b)
        linear(learned, head)
        logits @ head
        for weight, a, b, has_input_gradient in reversed(layers):
            x, dy = inputs[weight.shape[1]], inputs[weight.shape[0]]
            low = dy @ b
            low.T @ x
            dy.T @ inputs_low[a.shape[0]]
            if has_input_gradient:
                dy @ weight
                low @ a
        return time.perf_counter() - began

    inputs_low = {a.shape[0]: torch.randn(tokens, a.shape[0], **kind) for _, a, _, _ in layers}
    for weight, a, b, has_input_gradient in layers:
        adapter = a.numel() * (2 + has_input_gradient) + b.numel() * 3
        flops += 2.0 * tokens * (weight.numel() * (1 + has_input_gradient) + adapter)
    with torch.no_grad():
        once()
        return Products(median(once() for _ in range(PASSES)), flops)


def _weights(dtype: Any) -> tuple[list[tuple[Any, Any, Any, bool]], Any]:
    """Of every adapted layer, in order: W, A, B, and whether its input has a gradient; and the head's weight."""
    from peft.tuners.lora import LoraLayer

    from lora_backend.modeling.adapter import attach_adapter
    from lora_backend.modeling.load import load_model

    config = config_of(Contender("", "Flightdeck", {"precision": "fp32"}))
    model = attach_adapter(load_model(config), config)
    found = []
    for name, module in model.named_modules():
        if isinstance(module, LoraLayer):
            parts = (module.get_base_layer(), module.lora_A["default"], module.lora_B["default"])
            has_input_gradient = not (".layers.0.self_attn." in name and not name.endswith("o_proj"))
            found.append((*(part.weight.detach().to(dtype) for part in parts), has_input_gradient))
    return found, model.get_output_embeddings().weight.detach().to(dtype)
