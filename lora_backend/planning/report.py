"""A plan in words: what there is to say of it, and its table for a terminal or a log."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import Any

from lora_backend.config.schema import TrainingConfig
from lora_backend.escaping import visible
from lora_backend.i18n import N_, Message, translate
from lora_backend.models.refused_targets import left_out
from lora_backend.planning.advice import Advice
from lora_backend.planning.cost.optimizers import is_known
from lora_backend.planning.figures import Figures, figures_in_words
from lora_backend.planning.one_gpu import single_is_enough
from lora_backend.planning.plan import DevicePlan, Plan
from lora_backend.planning.split.chosen_split import Goal
from lora_backend.planning.targets import GIB
from lora_backend.planning.verdict import TONES, Verdict
from lora_backend.terminal import Tone

FITS = N_("It fits. The busiest device is {name}: {percent} % of what is free there, {free} GiB left.")
FITS_ALONE = N_("It fits: {percent} % of what is free on {name}, {free} GiB left.")
TIGHT = N_(
    "Tight: {left} would be left on {name}, but it may need up to {more} more than planned. Save memory, or close other programs that use it."
)
TIGHT_BY_FORMULA = N_(
    "Tight: {left} would be left on {name}, but the figures come from a formula and may be {error} % too low: up to {more} more. Save memory, or close other programs that use it."
)
OVER = N_("It does not fit: {name} would be {over} GiB over what is free there.")
ALSO_OVER = N_("{name}: {over} GiB over.")
EVEN_IF_TOO_LOW = N_("The figures come from a formula; it would still fit if they were {error} % too low.")
FROM_FORMULA = N_("The figures come from a formula and may be off by {error} %.")
AFTER: dict[Verdict, str] = {"fits": N_("; then it fits"), "tight": N_("; then it is tight")}
SIGNS: dict[Verdict, str] = {"fits": "", "tight": " ?", "over": " !"}
COLUMNS = ("weights", "adapter", "gradients", "optimizer", "activations", "logits", "overhead")


def plan_document(plan: Plan, advice: Sequence[Advice], found: Figures) -> dict[str, Any]:
    """The JSON document of the command `plan`; `advice` is empty where the plan fits beyond doubt."""
    return {
        **plan.to_json(),
        "method": plan.profile.method,
        "expected_error": plan.profile.expected_error,
        **found.to_json(),
        "advice": [remedy.to_json() for remedy in advice],
    }


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
        N_("The layers are spread over {count} GPUs, which work one after the other: a split adds memory, not speed."),
        {"count": len(plan.used)},
    )


def _as_trained(plan: Plan, config: TrainingConfig, goal: Goal) -> Message | None:
    """How a run gets the placement that is shown, where it would not: without a map the whole model goes to the first
    device, and a balanced one knows no other goal."""
    first = plan.devices[0]
    is_as_shown = goal == "balance" if config.use_balanced_device_map else plan.used == (first,)
    if config.device_map is not None or is_as_shown or len(plan.devices) == 1:
        return None
    if goal == "balance":
        return Message(
            N_("To train with this placement set `use_balanced_device_map: true`; without it the whole model goes to {name}."),
            _named(first),
        )  # fmt: skip
    return Message(N_("To train with this placement take the map that `--json` prints as the config's `device_map`."))


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
    without = left_out(plan.profile.model_type) if config.target_modules == "all-linear" else None
    if without is not None:
        found.append(without)
    if not is_known(config.optim):
        found.append(
            Message(
                N_("The optimizer `{name}` is not known here; AdamW's states stand in for its own."),
                {"name": config.optim},
            )
        )
    if isinstance(config.device_map, str) and config.device_map != "cpu":
        found.append(
            Message(
                N_("`device_map: {word}` lets accelerate place the model, by weights alone; the plan shows the best placement. Use its map to get it."),
                {"word": config.device_map},
            )
        )  # fmt: skip
    if not plan.is_exact:
        found.append(
            Message(N_("There are so many different devices that the placement may not be the very best one."))
        )
    return found


def plan_table(plan: Plan) -> str:
    """One line per device, in GiB; for a log or a terminal."""
    head = [
        translate(N_("device")),
        translate(N_("blocks")),
        translate(N_("free")),
        *COLUMNS,
        translate(N_("total")),
        "%",
    ]
    rows = [head, *(_row(device) for device in plan.devices)]
    widths = [max(_width(row[index]) for row in rows) for index in range(len(head))]
    return "\n".join(
        "  ".join(
            _pad(cell, width, left=index < 2) for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )


def _row(device: DevicePlan) -> list[str]:
    percent = f"{100 * device.utilisation:.0f}" if device.units else "–"
    return [
        visible(f"{device.target.device} {device.target.name}"),
        ranges(device.blocks) or "–",
        f"{device.target.capacity_bytes / GIB:.1f}",
        *(f"{getattr(device.breakdown, name) / GIB:.2f}" for name in COLUMNS),
        f"{device.breakdown.total / GIB:.2f}",
        percent + SIGNS[device.verdict],
    ]


def plan_text(plan: Plan, config: TrainingConfig, message: Message | None, found: Figures) -> str:
    """The plan for a person in a terminal; what would help is said behind it."""
    lines = [verdict(plan).text(), "", plan_table(plan)]
    lines += ["", *(figure.text() for figure in figures_in_words(found, plan, config))]
    more = [
        note
        for note in (message, split_note(plan), _as_trained(plan, config, found.goal), *notes(plan, config))
        if note is not None
    ]
    if more:
        lines += ["", *(note.text() for note in more)]
    return "\n".join(lines)


def advice_text(advice: Advice) -> str:
    """`gradient_checkpointing: true saves 11.2 GiB in all (activations are computed twice), about 30 % slower; then it fits`."""
    template = N_("{change} saves {saves} GiB in total ({price})")
    if advice.code == "best_placement":
        template = N_("{change} places the layers anew")
    elif advice.code == "balanced":
        template = N_("`--goal balance` places the layers anew")
    elif not advice.change:
        template = N_("One more GPU takes {saves} GiB off the others ({price})")
    values = {
        "change": ", ".join(f"{key}: {_value(value)}" for key, value in advice.change.to_json().items()),
        "saves": f"{advice.saves_bytes / GIB:.1f}",
        "price": advice.price,
    }
    text = Message(template, values).text()
    if advice.slower_percent > 0:
        text += Message(N_(", about {percent} % slower"), {"percent": advice.slower_percent}).text()
    return text + (translate(AFTER[advice.verdict]) if advice.fits else "")


def _value(value: Any) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def ranges(numbers: Sequence[int]) -> str:
    """`0–11, 14`: runs of numbers that follow each other."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(f"{run[0]}–{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)


def _width(text: str) -> int:
    """Columns that a text takes in a terminal; a Chinese character takes two."""
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)


def _pad(text: str, width: int, *, left: bool) -> str:
    fill = " " * (width - _width(text))
    return text + fill if left else fill + text
