"""A plan for a reader: its table of devices, its figures, and every way to save memory in a line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lora_backend.config.schema import TrainingConfig
from lora_backend.formats import gib, money_range, seconds_range
from lora_backend.i18n import N_, Message, Plural, translate
from lora_backend.planning.advice import Advice
from lora_backend.planning.estimate import Estimate
from lora_backend.planning.figures import Figures, figures_in_words
from lora_backend.planning.plan import DevicePlan, Plan
from lora_backend.planning.report import notes, split_note, tone, verdict
from lora_backend.planning.split.chosen_split import Goal
from lora_backend.planning.targets import GIB
from lora_backend.planning.verdict import Verdict
from lora_backend.planning.ways import Way
from lora_backend.views.table import Cell, Table

COMPONENTS = {
    "weights": N_("weights"),
    "adapter": N_("adapter"),
    "gradients": N_("gradients"),
    "optimizer": N_("optimizer"),
    "activations": N_("activations"),
    "logits": N_("loss"),
    "overhead": N_("overhead"),
}
"""What a device holds, in the order in which tables and bars show it."""
LEFT = 2
"""Columns of the table of devices that are words."""
SIGNS: dict[Verdict, str] = {"fits": "", "tight": " ?", "over": " !"}
AFTER: dict[Verdict, str] = {"fits": N_("; fits with this"), "tight": N_("; tight with this")}
STRATEGIES = {
    "single": N_("one GPU"),
    "layer_split": N_("split across {count} GPUs"),
    "cpu": N_("on the CPU"),
    "ddp": N_("the whole model on each of {count} devices"),
    "fsdp": N_("shards of the model on {count} devices"),
}
ON_A_CPU = {
    "ddp": Plural("the whole model in {count} process", "the whole model in {count} processes"),
    "fsdp": Plural("shards of the model in {count} process", "shards of the model in {count} processes"),
}


def plan_document(plan: Plan, advice: Sequence[Advice], found: Figures, options: Sequence[Way]) -> dict[str, Any]:
    """The JSON document of the command `plan`; `advice` is empty where the plan fits beyond doubt. `options`: every way to
    train it on these devices."""
    return {
        **plan.document().to_json(),
        "method": plan.profile.method,
        "expected_error": plan.profile.expected_error,
        **found.to_json(),
        "advice": [remedy.to_json() for remedy in advice],
        "options": [way.to_json() for way in options],
    }


def device_table(plan: Plan) -> Table:
    """One row a device: its blocks, and what it holds in GiB."""
    heads = (N_("device"), N_("blocks"), N_("free"), *COMPONENTS.values(), N_("total"), "%")
    return Table(tuple(map(Message, heads)), tuple(map(_device_row, plan.devices)))


def plan_table(plan: Plan) -> str:
    """The table of devices for a terminal or a log."""
    return device_table(plan).text(LEFT)


def _device_row(device: DevicePlan) -> tuple[Cell, ...]:
    percent = f"{100 * device.utilisation:.0f}" if device.units else "–"
    return (
        f"{device.target.device} {device.target.name}",
        ranges(device.blocks) or "–",
        f"{device.target.capacity_bytes / GIB:.1f}",
        *(f"{getattr(device.breakdown, name) / GIB:.2f}" for name in COMPONENTS),
        f"{device.breakdown.total / GIB:.2f}",
        percent + SIGNS[device.verdict],
    )


def plan_text(
    plan: Plan, config: TrainingConfig, message: Message | None, found: Figures, auto: Message | None = None
) -> str:
    """The plan for a person in a terminal; what would help is said behind it. `auto`: what a run takes that chooses itself."""
    lines = [verdict(plan).text(), "", plan_table(plan)]
    lines += ["", *(figure.text() for figure in figures_in_words(found, plan, config))]
    more = [
        note
        for note in (message, split_note(plan), auto or _as_trained(plan, config, found.goal), *notes(plan, config))
        if note is not None
    ]
    if more:
        lines += ["", *(note.text() for note in more)]
    return "\n".join(lines)


def _as_trained(plan: Plan, config: TrainingConfig, goal: Goal) -> Message | None:
    """How a run gets the placement that is shown, where it would not: without a map the whole model goes to the first
    device, and a balanced one knows no other goal."""
    first = plan.devices[0]
    is_as_shown = goal == "balance" if config.is_balanced else plan.used == (first,)
    if config.device_map is not None or is_as_shown or len(plan.devices) == 1 or plan.is_shared:
        return None
    if goal == "balance":
        return Message(
            N_(
                "To train with this placement, set `use_balanced_device_map: true`; without it, the whole model goes to {name}."
            ),
            {"name": first.target.label},
        )
    return Message(N_("To train with this placement, use the map that `--json` prints as the config's `device_map`."))


def advice_text(advice: Advice) -> str:
    """`gradient_checkpointing: true saves 11.2 GiB in total (activations are computed twice), about 30 % slower; fits with this`."""
    template = N_("{change} saves {saves} GiB in total ({price})")
    if advice.code == "best_placement":
        template = N_("{change} moves layers")
    elif advice.code == "balanced":
        template = N_("`--goal balance` moves layers")
    elif not advice.change:
        template = N_("One more GPU takes {saves} GiB off the others ({price})")
    values = {
        "change": change_text(advice),
        "saves": f"{advice.saves_bytes / GIB:.1f}",
        "price": advice.price,
    }
    text = Message(template, values).text()
    if advice.slower_percent > 0:
        text += Message(N_(", about {percent}% slower"), {"percent": advice.slower_percent}).text()
    return text + (translate(AFTER[advice.verdict]) if advice.fits else "")


def change_text(advice: Advice) -> str:
    """`gradient_checkpointing: true`, as a config says it."""
    return ", ".join(f"{key}: {_value(value)}" for key, value in advice.change.to_json().items())


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


def strategy_message(plan: Plan) -> Message:
    """How the model is placed."""
    if plan.is_shared and plan.used[0].target.is_cpu:
        return Message(ON_A_CPU[plan.strategy], {"count": plan.num_processes})
    return Message(STRATEGIES[plan.strategy], {"count": len(plan.used)})


def fits_message(plan: Plan) -> Message:
    """The verdict for a cell of a table: a sign and a word."""
    if plan.verdict == "over":
        over = Message(N_("{size} over"), {"size": gib(-plan.bottleneck.free_bytes)})
        return Message("✗ {word}", {"word": over})
    if plan.verdict == "tight":
        return Message("⚠ {word}", {"word": Message(N_("tight"))})
    if tone(plan) == "good":
        return Message("✓ {word}", {"word": Message(N_("fits"))})
    return Message("⚠ {word}", {"word": Message(N_("fits by a formula"))})


def step_message(found: Estimate | None) -> Message:
    """`2.1 to 4 s`; a dash where it cannot be said."""
    return NOT_KNOWN if found is None else seconds_range(*found.step_s)


def total_message(found: Estimate | None) -> Message:
    """Time of the whole run, likewise."""
    return NOT_KNOWN if found is None or found.total_s is None else seconds_range(*found.total_s)


def cost_message(found: Estimate | None, price: float | None, num_gpus: int, currency: str) -> Message:
    """Money for the whole run, likewise."""
    cost = found.cost(price, num_gpus) if found is not None and price and num_gpus else None
    return NOT_KNOWN if cost is None else money_range(*cost, currency)


NOT_KNOWN = Message("–")
