"""The layer strip before anybody draws it: what each device's bar is made of, its colours, and the words beside it."""

from __future__ import annotations

from dataclasses import dataclass

from lora_backend.formats import gib
from lora_backend.i18n import N_, Message
from lora_backend.planning.cost.memory import Memory
from lora_backend.planning.plan import DevicePlan, Plan
from lora_backend.planning.verdict import Verdict
from lora_backend.views.plan_view import ranges, strategy_message

BLOCKS = ("#0b5c8f", "#1f78b4")
"""Neighbours take turns, so that each can be told from the next; white text reads on both."""
COLORS = {
    "held": "#7d8791",
    "embedding": "#23734f",
    "block": BLOCKS[0],
    "head": "#83408c",
    "loss": "#a4491a",
    "overhead": "#59646f",
    "gathered": "#3f7f8c",
    "waiting": "#5d6d9e",
}
NAMES = {
    "held": N_("held by others"),
    "embedding": N_("embedding"),
    "block": N_("blocks"),
    "head": N_("head"),
    "gathered": N_("gathered from the others"),
    "waiting": N_("weights in host memory"),
    "loss": N_("loss"),
    "overhead": N_("overhead"),
}
SELECTED = "#f0a92e"
TEXT = {"light": "#1b242c", "dark": "#e6ebef"}
OUTLINE = {"light": "#9aa5af", "dark": "#66727e"}
IN_DOUBT: dict[Verdict, dict[str, str]] = {
    "tight": {"light": "#8a5a00", "dark": "#f5b84d"},
    "over": {"light": "#c02626", "dark": "#ff8a80"},
}
"""Amber and red that read as text on either theme."""
FREE_FILL = "rgba(125, 135, 145, .16)"


@dataclass(frozen=True)
class Cell:
    """A stretch of a device's bar; bytes."""

    kind: str
    unit: int | None
    """The part of the model that it stands for, if it is one."""
    size_bytes: float


def cells_of(plan: Plan, device: DevicePlan, memory: Memory) -> list[Cell]:
    """What a device will hold, cut into cells that add up to its planned bytes.

    Weights belong to their part; adapter, gradients and optimizer go by trained parameters, activations by what each
    part keeps (equally, where none keeps anything). Loss and overhead are cells of their own, and with fsdp what is gathered.
    """
    held = device.breakdown
    if not device.units:  # weights that wait in host memory
        return [Cell("waiting", None, held.weights)] if held.weights else []
    whole = [memory.weights_bytes(unit) for unit in device.units]
    own = [(held.weights - device.gathered_bytes) * share for share in _shares(whole)]
    trained = [_trainable(plan, unit) for unit in device.units]
    kept = [max(_kept(plan, unit), 0.0) for unit in device.units]
    cells = []
    for unit, weights, of_trained, of_kept in zip(device.units, own, _shares(trained), _shares(kept), strict=True):
        states = (held.adapter + held.gradients + held.optimizer) * of_trained
        cells.append(Cell(_kind(plan, unit), unit, weights + states + held.activations * of_kept))
    tail = [("gathered", device.gathered_bytes), ("loss", held.logits), ("overhead", held.overhead)]
    return cells + [Cell(kind, None, size) for kind, size in tail if size]


def device_message(device: DevicePlan) -> Message:
    """`GPU 0 · A100-80G`; an amount of memory alone has no other name."""
    target = device.target
    if target.is_cpu:
        return Message(N_("CPU, host memory"))
    short = target.name.removeprefix("NVIDIA ")
    name = gib(target.total_bytes) if short.startswith("GPU ") else short
    return Message("{name}", {"name": f"GPU {target.device} · {name}"})


def part_message(plan: Plan, device: DevicePlan) -> Message:
    """Which part of the model a device holds: its blocks, all of it, or a share; empty where it holds nothing."""
    if not plan.is_shared:
        return Message("{blocks}", {"blocks": ranges(device.blocks)})
    if not device.units:
        return Message(N_("weights in host memory")) if device.breakdown.weights else Message("")
    if device.target.is_cpu:
        return strategy_message(plan)
    if plan.strategy == "ddp":
        return Message(N_("whole model"))
    shard = plan.used.index(device) + 1
    return Message(N_("shard {shard} of {total}"), {"shard": shard, "total": plan.workload.num_processes})


def room_message(device: DevicePlan) -> Message:
    """Free or over, in words, with a sign where it is in doubt."""
    words = {"fits": N_("{size} free"), "tight": N_("tight: {size} free"), "over": N_("{size} over")}
    said = Message(words[device.verdict], {"size": gib(abs(device.free_bytes))})
    return Message("⚠ {room}", {"room": said}) if device.verdict in IN_DOUBT else said


def _kind(plan: Plan, unit: int) -> str:
    blocks = len(plan.profile.kind_of_block)
    return "block" if 0 < unit <= blocks else "embedding" if unit == 0 else "head"


def _trainable(plan: Plan, unit: int) -> int:
    profile, rank = plan.profile, plan.workload.size.rank
    if _kind(plan, unit) == "block":
        return profile.kinds[profile.kind_of_block[unit - 1]].trainable(rank)
    if unit == 0:
        return profile.embed.trainable(rank) + (profile.head.trainable(rank) if profile.is_tied else 0)
    return profile.head.trainable(rank)


def _kept(plan: Plan, unit: int) -> float:

    profile = plan.profile
    if _kind(plan, unit) != "block":
        return 0.0
    return float(profile.kinds[profile.kind_of_block[unit - 1]].forward.delta @ profile.monomials(plan.workload.size))


def _shares(parts: list[float] | list[int]) -> list[float]:
    whole = sum(parts)
    return [part / whole if whole else 1 / len(parts) for part in parts]
