"""Whether one GPU would hold what is spread over several, and whether it would be faster."""

from __future__ import annotations

from lora_backend.i18n import N_, Message
from lora_backend.planning.cost.memory import Memory
from lora_backend.planning.cost.step_time import Cpu, unit_seconds
from lora_backend.planning.plan import Plan, score_plan
from lora_backend.planning.targets import Target

FASTER = N_("{name} alone would fit it and be faster: in a split, the GPUs work one after another.")
HOLDS = N_("{name} alone would fit it: in a split, the GPUs work one after another.")


def single_is_enough(plan: Plan) -> Message | None:
    """Says so where one GPU would hold beyond doubt what is spread over several: the fastest of those that would, as far
    as their rates are known, else the largest."""
    if plan.strategy != "layer_split":
        return None
    memory = Memory(plan.profile, plan.workload)
    gpus = [device.target for device in plan.devices if not device.target.is_cpu]
    whole = [0] * memory.num_units
    alone = [gpu for gpu in gpus if score_plan(memory, [gpu], whole).verdict == "fits"]
    if not alone:
        return None
    seconds = {gpu.device: _seconds(plan, [gpu] * memory.num_units) for gpu in alone}
    best = min(alone, key=lambda gpu: (seconds[gpu.device] or float("inf"), -gpu.capacity_bytes))
    now, then = _seconds(plan, [plan.devices[index].target for index in plan.assignment]), seconds[best.device]
    # A split has its transfers on top, whatever the links.
    is_faster = now is not None and then is not None and then <= now * (1 + 1e-9)
    return Message(FASTER if is_faster else HOLDS, {"name": best.label})


def _seconds(plan: Plan, placed: list[Target]) -> float | None:
    """The middle of a pass's estimate without transfers, each unit on its device; None where a rate is not known."""
    values, total = plan.profile.monomials(plan.workload.size), 0.0
    for unit, target in enumerate(placed):
        times = unit_seconds(plan.profile, values, target, Cpu())
        if times is None:
            return None
        total += float(times[:, unit].mean())
    return total
