"""A plan in words: its verdict, and what a reader must know beside its figures."""

from __future__ import annotations

from typing import Any

from lora_backend.config.schema import TrainingConfig
from lora_backend.i18n import N_, Message
from lora_backend.models.refused_targets import left_out
from lora_backend.planning.cost.optimizers import is_known
from lora_backend.planning.one_gpu import single_is_enough
from lora_backend.planning.plan import DevicePlan, Plan
from lora_backend.planning.planner import why_padded_on
from lora_backend.planning.targets import GIB
from lora_backend.planning.verdict import TONES
from lora_backend.terminal import Tone

FITS = N_("It fits. The busiest device is {name}: {percent}% of its free memory, {free} GiB left.")
FITS_ALONE = N_("It fits: {percent}% of the free memory on {name}, {free} GiB left.")
TIGHT = N_(
    "Tight: {left} would be left on {name}, but it may need up to {more} more than planned. Save memory, or close other programs that use it."
)
TIGHT_BY_FORMULA = N_(
    "Tight: {left} would be left on {name}, but the figures come from a formula and may be {error}% too low: up to {more} more. Save memory, or close other programs that use it."
)
OVER = N_("It does not fit: {name} would be {over} GiB over its free memory.")
ALSO_OVER = N_("{name}: {over} GiB over.")
EVEN_IF_TOO_LOW = N_("The figures come from a formula; it would still fit if they were {error}% too low.")
FROM_FORMULA = N_("The figures come from a formula and may be off by {error}%.")


def verdict(plan: Plan) -> Message:
    """Whether it fits, and what decides it: the fullest device, the one most in doubt, or every one that would be over."""
    if plan.verdict == "tight":
        return _tight(max(plan.used, key=_possible_utilisation), is_formula=plan.profile.method == "formula")
    device = plan.bottleneck
    said = [_room(device, is_alone=len(plan.used) == 1) if plan.verdict == "fits" else _shortage(OVER, device)]
    said += [_shortage(ALSO_OVER, other) for other in plan.devices if other is not device and other.verdict == "over"]
    if plan.profile.method == "formula":
        error = {"error": f"{100 * plan.profile.expected_error:.0f}"}
        template = EVEN_IF_TOO_LOW if plan.verdict == "fits" else FROM_FORMULA
        said.append(Message(template, error))
    return said[0] if len(said) == 1 else Message("{reasons}", {"reasons": said})


def tone(plan: Plan) -> Tone:
    """Its colour: green only where it is beyond doubt, so never where a formula guesses."""
    is_guess = plan.verdict == "fits" and plan.profile.method == "formula"
    return "doubt" if is_guess else TONES[plan.verdict]


def _room(device: DevicePlan, *, is_alone: bool) -> Message:
    values = {"percent": f"{100 * device.utilisation:.0f}", "free": f"{device.free_bytes / GIB:.1f}"}
    return Message(FITS_ALONE if is_alone else FITS, _named(device) | values)


def _tight(device: DevicePlan, *, is_formula: bool) -> Message:
    values = {
        "left": _rough(device.free_bytes),
        "more": _rough(device.uncertainty_bytes),
        "error": f"{100 * device.expected_error:.0f}",
    }
    return Message(TIGHT_BY_FORMULA if is_formula else TIGHT, _named(device) | values)


def _rough(size_bytes: int) -> str:
    """As exact as an uncertainty can be."""
    return f"{size_bytes / GIB:.1f} GiB" if size_bytes >= GIB else f"{size_bytes / 2**20:.0f} MiB"


def _possible_utilisation(device: DevicePlan) -> float:
    """With all that it may take beyond what is planned."""
    return (device.breakdown.total + device.uncertainty_bytes) / max(device.target.capacity_bytes, 1)


def _shortage(template: str, device: DevicePlan) -> Message:
    return Message(template, _named(device) | {"over": f"{-device.free_bytes / GIB:.1f}"})


def _named(device: DevicePlan) -> dict[str, Any]:
    return {"name": device.target.label}


def split_note(plan: Plan) -> Message | None:
    """What a split is worth: memory, and less than nothing where one GPU is enough; None for a plan without one."""
    if plan.strategy != "layer_split":
        return None
    return single_is_enough(plan) or Message(
        N_("The layers are spread over {count} GPUs, which work one after another: a split adds memory, not speed."),
        {"count": len(plan.used)},
    )


def notes(plan: Plan, config: TrainingConfig) -> list[Message]:
    """What a reader must know beside the figures."""
    found: list[Message] = []
    positions = plan.profile.max_positions
    if positions and config.max_length > positions:
        found.append(
            Message(
                N_("`max_length` is {length}, but the model was made for {positions} tokens."),
                {"length": config.max_length, "positions": positions},
            )
        )
    if plan.profile.method == "formula":
        found.append(
            Message(
                N_(
                    "The step of this model cannot be traced: weights and adapter are counted, activations come from a formula."
                )
            )
        )
    padded = _why_padded(plan, config)
    if padded is not None:
        found.append(padded)
    if config.loss_type == "auto" and plan.profile.taken.loss_type == "nll":
        found.append(
            Message(
                N_(
                    "The logits of all tokens are kept: this model's loss cannot be computed from those of answers alone."
                )
            )
        )
    without = left_out(plan.profile.model_type) if config.target_modules == "all-linear" else None
    if without is not None:
        found.append(without)
    if not is_known(config.optim):
        found.append(
            Message(
                N_("The optimizer `{name}` is not known here, so the states of AdamW are assumed."),
                {"name": config.optim},
            )
        )
    if isinstance(config.device_map, str) and config.device_map != "cpu":
        found.append(
            Message(
                N_(
                    "`device_map: {word}` lets accelerate place the model by weights alone; the plan shows the best placement. Use its map to get it."
                ),
                {"word": config.device_map},
            )
        )
    if not plan.is_exact:
        found.append(Message(N_("There are so many different devices that the placement may not be the best one.")))
    return found


def _why_padded(plan: Plan, config: TrainingConfig) -> Message | None:
    """Why rows are padded although the config leaves it open, or asks for something else."""
    if config.batching == "padded" or plan.profile.taken.batching == "flat":
        return None
    targets = [device.target for device in plan.devices]
    return plan.profile.taken.why_padded or why_padded_on(plan.profile.settings.precision, targets)
