"""The ways to train a config on some devices, side by side: what each is called, and what it comes to."""

from __future__ import annotations

from lora_backend.config.schema import TrainingConfig
from lora_backend.errors import FlightdeckError
from lora_backend.formats import two_digits
from lora_backend.i18n import N_, Message, Plural
from lora_backend.planning.estimate import Conditions
from lora_backend.planning.fastest_way import fastest_that_fits
from lora_backend.planning.planner import Planner
from lora_backend.planning.processes.dealt import passes_of
from lora_backend.planning.ways import Way, WayCode
from lora_backend.views.plan_view import NOT_KNOWN

NAMES: dict[WayCode, str] = {
    "single": N_("one GPU"),
    "single_4bit": N_("one GPU, 4-bit weights"),
    "layer_split": N_("split across the GPUs"),
    "ddp": N_("ddp: the whole model on each GPU"),
    "fsdp": N_("fsdp: a share of the model on each GPU"),
    "fsdp_offload": N_("fsdp, weights in host memory"),
}
PROCESSES: dict[WayCode, Plural] = {
    "ddp": Plural("ddp: the whole model in {count} process", "ddp: the whole model in {count} processes"),
    "fsdp": Plural("fsdp: a share of the model in {count} process", "fsdp: a share of the model in {count} processes"),
}
"""Where they share a CPU."""
ON_CPU: dict[WayCode, str] = {"single": N_("on the CPU"), "single_4bit": N_("on the CPU, 4-bit weights")}
"""Where there is no GPU."""


def way_message(way: Way) -> Message:
    """What it is called; with its GPUs, once it is known that there are several."""
    if way.plan is None:
        return Message(NAMES[way.code])
    if way.plan.is_shared and not way.num_gpus:
        return Message(PROCESSES[way.code], {"count": way.plan.num_processes})
    if way.num_gpus < 2:
        return Message((NAMES if way.num_gpus else NAMES | ON_CPU)[way.code])
    gpus = Message(Plural("{count} GPU", "{count} GPUs"), {"count": way.num_gpus})
    return Message("{name} · {gpus}", {"name": Message(NAMES[way.code]), "gpus": gpus})


def auto_message(planner: Planner, config: TrainingConfig, conditions: Conditions) -> Message | None:
    """What a run takes on these devices whose config leaves that open; None where it does not, or where a step has one
    micro-batch: then it is one device as long as that holds it."""
    gpus = sum(not target.is_cpu for target in planner.targets)
    if config.strategy != "auto" or config.is_placed or gpus < 2 or passes_of(config) < 2:
        return None
    try:
        choice = fastest_that_fits(planner, config, planner.targets, conditions)
    except FlightdeckError:
        return None
    return Message(N_("With `strategy: auto`, a run uses: {reason}"), {"reason": choice.reason})


def pace_message(way: Way) -> Message:
    """`1,200 to 1,500`, in tokens a second; a dash where it cannot be said."""
    if way.tokens_per_s is None:
        return NOT_KNOWN
    low, high = (two_digits(rate) for rate in way.tokens_per_s)
    return Message(low) if low == high else Message(N_("{low} to {high}"), {"low": low, "high": high})
