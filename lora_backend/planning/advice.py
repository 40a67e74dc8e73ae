"""What would make a run fit, or fit better: each remedy with what it saves and what it costs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from lora_backend.config.schema import TrainingConfig
from lora_backend.errors import FlightdeckError
from lora_backend.i18n import N_, Message
from lora_backend.planning.estimate import estimate, flops
from lora_backend.planning.plan import Plan
from lora_backend.planning.planner import Planner, with_changes
from lora_backend.planning.verdict import Verdict

CHANGES_RESULT = ("quantization", "shorter_rows", "fewer_targets", "one_more_gpu")
"""Remedies that change what is learned, or need hardware."""
IN_THIS_ORDER = (
    "chunked_loss",
    "gradient_checkpointing",
    "smaller_batch",
    "optimizer_8bit",
    "quantization",
    "shorter_rows",
)
"""In which they are tried on top of each other."""
ATTENTION_TARGETS = ["q_proj", "v_proj"]


@dataclass(frozen=True)
class Advice:
    """One remedy."""

    code: str
    change: dict[str, Any]
    """Keys of the config and the values to give them; empty for one more GPU."""
    saves_bytes: int
    """Bytes on all devices together, before minus after; of one more GPU: what it takes off the others."""
    slowdown: float | None
    """Time of a step / time of a step now; None where it changes what is learned, not how fast."""
    fits: bool
    price: Message
    """What it costs, in words."""
    plan: Plan
    """What it comes to."""

    @property
    def verdict(self) -> Verdict:
        return self.plan.verdict

    def to_json(self) -> dict[str, Any]:
        return {
            "code": self.code,
            "change": self.change,
            "saves_bytes": self.saves_bytes,
            "slowdown": self.slowdown,
            "fits": self.fits,
            "verdict": self.verdict,
        }


def advise(planner: Planner, config: TrainingConfig, plan: Plan) -> list[Advice]:
    """Every remedy that saves something and leaves the fullest device less full; those that make it fit first, then the
    cheapest, then the largest saving."""
    # What leaves the result as it is comes before what changes what is learned.
    return sorted(
        remedies(planner, config, plan),
        key=lambda advice: (
            not advice.fits,
            advice.code in CHANGES_RESULT,
            advice.slowdown or 1.0,
            -advice.saves_bytes,
        ),
    )


def remedies(planner: Planner, config: TrainingConfig, plan: Plan) -> Iterator[Advice]:
    """The same one after the other, each as soon as it is planned: one that needs a trace takes seconds."""
    is_enough = plan.fits
    for code, change, price in _remedies(config, plan):
        try:
            changed = with_changes(config, **change)
            other = planner.plan(changed)
        except ValueError:  # a family that does not support it, a value out of bounds: no remedy then
            continue
        advice = _advice(code, change, price, plan, other, config, changed)
        if _helps(advice, plan):
            is_enough |= advice.fits
            yield advice
    more = _one_more_gpu(planner, config, plan)
    if more is not None and _helps(more, plan):
        yield more
    together = None if is_enough else _together(planner, config, plan)
    if together is not None:
        yield together


def _helps(advice: Advice, plan: Plan) -> bool:
    return advice.saves_bytes > 0 and advice.plan.bottleneck_utilisation < plan.bottleneck_utilisation


def _together(planner: Planner, config: TrainingConfig, plan: Plan) -> Advice | None:
    """Remedies on top of each other until it fits, where none alone is enough; rows are cut off last."""
    changes: dict[str, Any] = {}
    changed, other = config, plan
    for code in IN_THIS_ORDER:
        while not other.fits:
            step = next((change for name, change, _ in _remedies(changed, other) if name == code), None)
            if step is None:
                break
            try:
                next_config = with_changes(changed, **step)
                other = planner.plan(next_config)
            except ValueError:  # this model does not support it
                break
            changed, changes = next_config, changes | step
            if code != "smaller_batch" and code != "shorter_rows":
                break
    if not other.fits:
        return None
    price = Message(N_("all of these together; none alone is enough"))
    return _advice("together", changes, price, plan, other, config, changed)


def _remedies(config: TrainingConfig, plan: Plan) -> Iterator[tuple[str, dict[str, Any], Message]]:
    if not config.gradient_checkpointing:
        yield "gradient_checkpointing", {"gradient_checkpointing": True}, Message(N_("activations are computed twice"))
    if config.loss_type == "nll":
        yield (
            "chunked_loss",
            {"loss_type": "chunked_nll"},
            Message(N_("the same loss, computed in tiles; about as fast")),
        )
    if config.batch_size > 1:
        half = config.batch_size // 2
        effective = config.target_batch_size or config.batch_size
        change = {"batch_size": half, "target_batch_size": effective if effective % half == 0 else half * (effective // half)}  # fmt: skip
        yield "smaller_batch", change, Message(N_("more passes for each step, with the same rows in it"))
    if config.quantization is None and config.precision != "fp32":
        yield "quantization", {"quantization": "nf4"}, Message(N_("weights in 4 bits: a little less exact, and unpacked for each product"))  # fmt: skip
    if config.max_length >= 128:
        yield "shorter_rows", {"max_length": config.max_length // 2}, Message(N_("rows that are longer are cut off"))
    if config.optim in ("adamw_torch", "adamw_torch_fused"):
        yield "optimizer_8bit", {"optim": "adamw_8bit"}, Message(N_("the optimizer's states in 8 bits; needs bitsandbytes"))  # fmt: skip
    if config.target_modules == "all-linear":
        yield "fewer_targets", {"target_modules": ATTENTION_TARGETS}, Message(N_("only attention is adapted: fewer trained parameters"))  # fmt: skip


def _advice(
    code: str, change: dict[str, Any], price: Message, plan: Plan, other: Plan, config: TrainingConfig, changed: TrainingConfig
) -> Advice:  # fmt: skip
    here = other.devices[:-1] if code == "one_more_gpu" else other.devices
    saves_bytes = sum(device.breakdown.total for device in plan.devices) - sum(
        device.breakdown.total for device in here
    )
    slowdown: float | None = None
    if code not in ("shorter_rows", "fewer_targets"):
        now, then = estimate(plan, config), estimate(other, changed)
        if now is not None and then is not None:
            slowdown = sum(then.step_s) / sum(now.step_s)
        else:
            passes = _passes(changed) / _passes(config)
            slowdown = flops(other) / max(flops(plan), 1.0) * passes
    return Advice(code, change, saves_bytes, slowdown, other.fits, price, other)


def _passes(config: TrainingConfig) -> int:
    return max((config.target_batch_size or config.batch_size) // config.batch_size, 1)


def _one_more_gpu(planner: Planner, config: TrainingConfig, plan: Plan) -> Advice | None:
    """Another card like the largest one here."""
    gpus = [target for target in planner.targets if not target.is_cpu]
    if not gpus or plan.fits:
        return None
    largest = max(gpus, key=lambda target: target.total_bytes)
    another = replace(largest, device=len(gpus), held_bytes=0, uuid=None)
    try:
        other = replace(planner, targets=(*planner.targets, another), link_speed=None).plan(config)
    except FlightdeckError:
        return None
    price = Message(N_("another {name}; layers are spread over one GPU more"), {"name": largest.name})
    return _advice("one_more_gpu", {}, price, plan, other, config, config)
