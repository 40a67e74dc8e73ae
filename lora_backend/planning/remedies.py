"""Changes of a config that save memory: what each sets, in the order in which a practitioner tries them, and how much it
can save at most."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lora_backend.config.patch import Patch
from lora_backend.config.schema import TrainingConfig
from lora_backend.i18n import N_, Message
from lora_backend.planning.cost.memory import RESERVE, Breakdown

CHANGES_RESULT = ("quantization", "fewer_targets", "shorter_rows", "one_more_gpu")
"""Remedies that change what is learned, or need hardware."""
WITHOUT_SLOWDOWN = ("fewer_targets", "shorter_rows")
"""Remedies whose price is in what is learned, not in time."""
KEEP_RESULT = ("fused_lora", "chunked_loss", "gradient_checkpointing", "smaller_batch", "optimizer_8bit")
"""Remedies that cost time at most, in the order in which they are tried on top of each other."""
ON_TOP = (*KEEP_RESULT, "quantization", "shorter_rows")
"""Likewise, where those are not enough; rows are cut off last."""
SHRINKS = {
    "fused_lora": ("activations", "logits"),
    "chunked_loss": ("logits",),
    "gradient_checkpointing": ("activations",),
    "smaller_batch": ("activations", "logits"),
    "optimizer_8bit": ("optimizer",),
    "quantization": ("weights", "activations"),
    "fewer_targets": ("adapter", "gradients", "optimizer", "activations"),
    "shorter_rows": ("activations", "logits"),
}
"""Components that a remedy can make smaller: it saves at most all of them."""
ATTENTION_TARGETS = ["q_proj", "v_proj"]
SHORTEST_ROW = 64
"""Tokens; rows are not halved below."""
MOST_HALVINGS = 2
"""Of the rows: whoever trains on 2,048 tokens does not want 256 of them."""

Remedy = tuple[str, Sequence[Patch], Message]
"""Code, changes from the mildest to the strongest, and the price in words."""


def remedies_for(config: TrainingConfig) -> Iterator[Remedy]:
    """In the order of a practitioner."""
    if not config.fused_lora:
        yield (
            "fused_lora",
            [Patch({"fused_lora": True})],
            Message(N_("each LoRA layer as one function: the same sums, and faster")),
        )
    if config.loss_type == "nll":
        yield (
            "chunked_loss",
            [Patch({"loss_type": "chunked_nll"})],
            Message(N_("the same loss, computed in tiles; about as fast")),
        )
    if not config.gradient_checkpointing:
        yield (
            "gradient_checkpointing",
            [Patch({"gradient_checkpointing": True})],
            Message(N_("activations are computed twice")),
        )
    if config.batch_size > 1:
        yield (
            "smaller_batch",
            _smaller_batches(config),
            Message(N_("more passes for each step, with the same rows in it")),
        )
    if config.optim in ("adamw_torch", "adamw_torch_fused"):
        yield (
            "optimizer_8bit",
            [Patch({"optim": "adamw_8bit"})],
            Message(N_("the optimizer's states in 8 bits; needs bitsandbytes")),
        )
    if config.quantization is None and config.precision != "fp32":
        yield (
            "quantization",
            [Patch({"quantization": "nf4"})],
            Message(N_("weights in 4 bits: a little less exact, and unpacked for each product")),
        )
    if config.target_modules == "all-linear":
        yield (
            "fewer_targets",
            [Patch({"target_modules": ATTENTION_TARGETS})],
            Message(N_("only attention is adapted: fewer trained parameters")),
        )
    if config.max_length >= 2 * SHORTEST_ROW:
        yield "shorter_rows", _shorter_rows(config), Message(N_("rows that are longer are cut off"))


def _smaller_batches(config: TrainingConfig) -> list[Patch]:
    """Halves of the batch down to one row, each with the rows of a step that are there now, as far as it divides them."""
    effective = config.target_batch_size or config.batch_size
    found, half = [], config.batch_size // 2
    while half:
        target = effective if effective % half == 0 else half * (effective // half)
        found.append(Patch({"batch_size": half, "target_batch_size": target}))
        half //= 2
    return found


def _shorter_rows(config: TrainingConfig) -> list[Patch]:
    halves = [config.max_length // 2**halvings for halvings in range(1, MOST_HALVINGS + 1)]
    return [Patch({"max_length": half}) for half in halves if half >= SHORTEST_ROW]


def most_saved(code: str, held: Breakdown) -> float:
    """All of the components that a remedy can make smaller, and the reserve that is kept for them."""
    return sum(getattr(held, name) for name in SHRINKS[code]) * (1 + RESERVE)
