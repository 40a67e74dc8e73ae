"""A profile from formulas, for families whose training step cannot be traced: what a Llama of these measures costs.

Bytes that autograd keeps per token and block, equal to what `saved_tensors_hooks` counted on Llama with fused attention
(H hidden, A = heads × head size, K = key-value heads × head size, I intermediate, r rank; seven adapted modules):
- fp32 adapters under autocast: 18H + 6A + 4K + 8I + 4·heads + 14r + 8
- adapters in half precision: 12H + 4A + 4K + 8I + 4·heads + 14r + 8
- fp32 throughout: 28H + 8A + 4K + 10I + 4·heads + 28r + 8
- with checkpointing 2H (fp32: 4H) are kept; the block's own bytes and 10H + 6I come back for a moment
The loss holds 12 bytes for each token and word. Experts count as many times as a token visits them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from lora_backend.planning.cost.profile import NOTHING, Part, Profile, TrainedTensors, Unit
from lora_backend.planning.cost.scaling import EXPONENTS, Vector
from lora_backend.planning.cost.trace_settings import TraceSettings

EXPECTED_ERROR = 0.5
"""Of the peak: 95 % of 188 predictions for 47 families were within 0.47, the median was off by 0.017, the worst by 0.68
(attention that is not fused, without checkpointing); see docs/memory-model.md."""
EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts")
VISITED = ("num_experts_per_tok", "moe_k", "moe_topk", "top_k_experts")
"""What families call the number of experts in a block, and of those that a token visits."""
ITEMSIZE = {"fp32": 4, "bf16": 2, "fp16": 2}
CONSTANT, RANK, ROWS_TOKENS, MASK, ROWS_TOKENS_RANK = (
    EXPONENTS.index((*e, 0, 0, 0)) for e in ((0, 0, 0), (0, 0, 1), (1, 1, 0), (1, 2, 0), (1, 1, 1))
)


@dataclass(frozen=True)
class Measures:
    """What the formula knows of a model: its widths, and how many experts a token visits."""

    hidden: int
    heads: int
    wide: int
    """Heads × head size."""
    narrow: int
    """Key-value heads × head size."""
    inner: int
    """Of one expert, where there are some."""
    visited: int
    vocabulary: int


def with_activations(counted: Profile, measures: Measures) -> Profile:
    """`counted` (what each unit weighs and trains) with what a Llama of these measures keeps and makes in a step."""
    settings, itemsize = counted.taken.step_of(counted.settings), ITEMSIZE[counted.settings.precision]
    hidden, vocabulary = measures.hidden, measures.vocabulary
    kept = _kept(settings, hidden, measures.wide, measures.narrow, measures.visited * measures.inner, measures.heads)
    if settings.uneven and settings.batching == "padded":
        kept[MASK] += 2
        kept[ROWS_TOKENS] += 4 * (measures.wide - measures.narrow)
    whole, back = kept.copy(), _vector(tokens=2 * itemsize * hidden)
    if settings.gradient_checkpointing:
        kept = _vector(tokens=itemsize * hidden)
        back = whole + _vector(tokens=10 * hidden + 6 * measures.visited * measures.inner)
    attention = 2 * hidden * (measures.wide + measures.narrow)
    flops = _vector(tokens=2.0 * (attention + measures.visited * 3 * hidden * measures.inner))
    flops[MASK] = 4.0 * measures.wide

    def block(unit: Unit) -> Unit:
        return replace(
            unit,
            forward=Part((whole,), kept, flops),
            backward=Part(
                (back,),
                _gradients(settings, unit.trained) - kept,
                flops * (2 if settings.gradient_checkpointing else 1),
            ),
        )

    loss = _vector(tokens=12.0 * vocabulary if settings.loss_type == "nll" else 4.0 * itemsize * hidden)
    if settings.loss_type != "nll":
        loss[CONSTANT] = 2.5 * 2**28
    head_flops = _vector(tokens=2.0 * vocabulary * hidden)
    of_embed, of_head = (_gradients(settings, unit.trained) for unit in (counted.embed, counted.head))
    return replace(
        counted,
        method="formula",
        expected_error=max(EXPECTED_ERROR, counted.expected_error),
        embed=replace(
            counted.embed,
            forward=Part((), _vector(tokens=itemsize * hidden), _vector()),
            backward=Part((of_embed,), of_embed, _vector()),
        ),
        kinds=tuple(map(block, counted.kinds)),
        head=replace(
            counted.head,
            forward=Part((loss * (10 / 12),), loss * (8 / 12), head_flops),
            # The head's own gradient comes behind the loss's, and in half precision before it is there in fp32.
            backward=Part((loss * (4 / 12), loss * (-6 / 12) + of_head * 1.5), loss * (-8 / 12) + of_head, head_flops),
        ),
        returns=NOTHING,
        hidden=_vector(tokens=itemsize * hidden),
    )


def _gradients(settings: TraceSettings, trained: tuple[TrainedTensors, ...]) -> Vector:
    itemsize = ITEMSIZE[settings.adapter_precision if settings.precision != "fp32" else "fp32"]
    vector = np.zeros(len(EXPONENTS))
    vector[CONSTANT] = itemsize * sum(tensors.fixed * tensors.num_tensors for tensors in trained)
    vector[RANK] = itemsize * sum(tensors.per_rank * tensors.num_tensors for tensors in trained)
    return vector


def _kept(settings: TraceSettings, hidden: int, wide: int, narrow: int, inner: int, heads: int) -> Vector:
    if settings.precision == "fp32":
        tokens, rank = 28 * hidden + 8 * wide + 4 * narrow + 10 * inner + 4 * heads + 8, 28
    elif settings.uses_autocast:
        tokens, rank = 18 * hidden + 6 * wide + 4 * narrow + 8 * inner + 4 * heads + 8, 14
    else:
        tokens, rank = 12 * hidden + 4 * wide + 4 * narrow + 8 * inner + 4 * heads + 8, 14
    vector = _vector(tokens=tokens)
    vector[ROWS_TOKENS_RANK] = rank
    return vector


def _vector(tokens: float = 0.0) -> Vector:
    vector = np.zeros(len(EXPONENTS))
    vector[ROWS_TOKENS] = tokens
    return vector
